"""Logs durably that it began a request, then does what the query asks, and echoes the request's nonce.

Query: `n` the nonce; `sleep` ms before the answer; `size` bytes of answer in `piece`s of bytes with `pause`
ms between them; `late` ms between reading the head and reading the body. Environment: NONCE_LOG, a file that
gets one line per begun request by one O_APPEND write (`nonce pid monotonic_ns`), so that a line is there
though the process is killed. IMPORT_MS delays the import, to be seen while starting.
"""

import hashlib
import os
import time
from urllib.parse import parse_qs

time.sleep(float(os.environ.get("IMPORT_MS", "0")) / 1000)
_log = os.open(os.environ["NONCE_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)


def application(environ, start_response):
    query = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    nonce = query["n"]
    os.write(_log, f"{nonce} {os.getpid()} {time.monotonic_ns()}\n".encode())
    time.sleep(float(query.get("late", "0")) / 1000)
    size, digest = 0, hashlib.sha256()
    while piece := environ["wsgi.input"].read(65536):
        size += len(piece)
        digest.update(piece)
    time.sleep(float(query.get("sleep", "0")) / 1000)
    head = f"{nonce} {os.getpid()} {size} {digest.hexdigest()}\n".encode()
    headers = [("Content-Type", "text/plain"), ("X-Nonce", nonce), ("X-Pid", str(os.getpid()))]
    if "size" not in query:
        start_response("200 OK", [*headers, ("Content-Length", str(len(head)))])
        return [head]
    start_response("200 OK", headers)
    return stream(
        head, int(query["size"]), int(query.get("piece", "16384")), float(query.get("pause", "0")) / 1000
    )


def stream(head, size, piece, pause_s):
    yield head
    while size > 0:
        time.sleep(pause_s)
        yield b"x" * min(piece, size)
        size -= piece
