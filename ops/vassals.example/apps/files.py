"""Takes a body of any size without holding it, and streams answers piece by piece."""

import hashlib
import time

PIECE = 64 * 1024
USAGE = (
    b"PUT anything: its size and SHA-256 come back.\nGET /countdown, or /zeros/1000000 for so many bytes.\n"
)


def app(environ, start_response):
    if environ["REQUEST_METHOD"] in ("PUT", "POST"):
        return upload(environ, start_response)
    path = environ["PATH_INFO"]
    if path == "/countdown":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return countdown()
    if path.startswith("/zeros/") and path[7:].isascii() and path[7:].isdigit():
        size = int(path[7:])
        start_response(
            "200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(size))]
        )
        return zeros(size)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(USAGE)))])
    return [USAGE]


def upload(environ, start_response):
    size, digest = 0, hashlib.sha256()
    while piece := environ["wsgi.input"].read(PIECE):
        size += len(piece)
        digest.update(piece)
    body = f"{size} bytes, SHA-256 {digest.hexdigest()}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def countdown():
    for left in (3, 2, 1):
        yield f"{left}\n".encode()
        time.sleep(0.5)
    yield b"lift-off\n"


def zeros(size):
    piece = bytes(PIECE)
    for _ in range(size // PIECE):
        yield piece
    yield bytes(size % PIECE)
