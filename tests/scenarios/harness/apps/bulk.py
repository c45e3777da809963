"""Much down and much up, without holding it. `size` bytes down; up: waits `late` ms, then reads to the end."""

import time
from urllib.parse import parse_qs

PIECE = 256 * 1024


def application(environ, start_response):
    query = {name: float(values[0]) for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    if environ["REQUEST_METHOD"] == "GET":
        size = int(query["size"])
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(size))])
        return (bytes(min(PIECE, size - at)) for at in range(0, size, PIECE))
    time.sleep(query.get("late", 0) / 1000)
    size = 0
    while piece := environ["wsgi.input"].read(PIECE):
        size += len(piece)
    body = str(size).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
