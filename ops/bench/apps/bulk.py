"""Large bodies: /down?BYTES sends so many, /up reads one and says how many bytes it had. Pieces of 64 KiB both ways."""

from hello import application as hello

PIECE = bytes(65536)


def application(environ, start_response):
    if environ["PATH_INFO"] == "/down":
        size = int(environ["QUERY_STRING"])
        start_response("200 OK", [("Content-Type", "application/x-bytes"), ("Content-Length", str(size))])
        return pieces(size)
    if environ["PATH_INFO"] == "/up":
        said = str(received(environ)).encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(said)))])
        return [said]
    return hello(environ, start_response)


def pieces(size):
    for _ in range(size // len(PIECE)):
        yield PIECE
    if size % len(PIECE):
        yield PIECE[: size % len(PIECE)]


def received(environ):
    """Reads no further than CONTENT_LENGTH: behind it some servers wait for more."""
    rest = int(environ["CONTENT_LENGTH"])
    count = 0
    while rest > count:
        piece = environ["wsgi.input"].read(min(len(PIECE), rest - count))
        if not piece:
            break
        count += len(piece)
    return count
