"""Small WSGI apps, one for each behaviour that PEP 3333 names; the first part of the path chooses.

With VALIDATE in the environment each runs under `wsgiref.validate.validator`, which fails an app that breaks a rule, and
a server that does. What they are to answer stands in tests/scenarios/test_wsgi_apps.py.
"""

import hashlib
import io
import json
import os
import sys
import threading
import time
from wsgiref.validate import validator

TEXT = [("Content-Type", "text/plain")]
APPS = {}
CLOSED = {}


def app(function):
    APPS[function.__name__] = function
    return function


def answer(start_response, value, status="200 OK"):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    start_response(status, TEXT)
    return [body]


class Safe(str):
    """Text with a type of its own, as Django's SafeString."""


class Closing:
    """Pieces, counted when closed under the name that the query says."""

    def __init__(self, environ, pieces, on_close=None):
        self.name, self.pieces, self.on_close = environ["QUERY_STRING"], iter(pieces), on_close

    def __iter__(self):
        for piece in self.pieces:
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    def close(self):
        CLOSED[self.name] = CLOSED.get(self.name, 0) + 1
        if self.on_close is not None:
            raise self.on_close


class Sized(Closing):
    def __init__(self, environ, pieces, size):
        super().__init__(environ, pieces)
        self.size = size

    def __len__(self):
        return self.size


# The environ.


@app
def environ(environ, start_response):
    assert type(environ) is dict
    for key, value in environ.items():
        if not key.startswith("wsgi."):
            assert type(value) is str, key
            value.encode("latin-1")
    names = environ["QUERY_STRING"].split(",")
    return answer(start_response, {name: environ.get(name, "absent") for name in names})


@app
def own(environ, start_response):
    seen = environ.get("left.behind", "nothing")
    environ["left.behind"] = "by another request"
    environ["wsgi.version"] = None
    return answer(start_response, seen)


@app
def path(environ, start_response):
    return answer(start_response, [environ[name] for name in ("SCRIPT_NAME", "PATH_INFO", "QUERY_STRING")])


@app
def asterisk(environ, start_response):
    return answer(start_response, [environ[name] for name in ("SCRIPT_NAME", "PATH_INFO", "REQUEST_URI")])


# wsgi.input.


@app
def read(environ, start_response):
    return answer(start_response, hashlib.sha256(environ["wsgi.input"].read(1 << 30)).hexdigest())


@app
def read_sizes(environ, start_response):
    body = environ["wsgi.input"]
    parts = [body.read(0), body.read(3), body.read(1), body.read(-1), body.read(5), body.read(-1)]
    return answer(start_response, [part.decode() for part in parts])


@app
def readline(environ, start_response):
    body = environ["wsgi.input"]
    return answer(start_response, [line.decode() for line in iter(body.readline, b"")])


@app
def readline_sizes(environ, start_response):
    body = environ["wsgi.input"]
    parts = [body.readline(2), body.readline(100), body.readline(0), body.readline(-1), body.read(-1)]
    return answer(start_response, [part.decode() for part in parts])


@app
def readlines(environ, start_response):
    return answer(start_response, [line.decode() for line in environ["wsgi.input"].readlines()])


@app
def readlines_hint(environ, start_response):
    body = environ["wsgi.input"]
    first = body.readlines(1)
    return answer(start_response, [len(first), (b"".join(first) + body.read(-1)).decode()])


@app
def iterate(environ, start_response):
    return answer(start_response, [line.decode() for line in environ["wsgi.input"]])


@app
def read_none(environ, start_response):
    return answer(start_response, b"unread")


@app
def read_no_argument(environ, start_response):
    return answer(start_response, environ["wsgi.input"].read())


@app
def terminated(environ, start_response):
    length = environ.get("CONTENT_LENGTH")
    return answer(
        start_response, [environ["wsgi.input_terminated"], length, len(environ["wsgi.input"].read(1 << 30))]
    )


# wsgi.errors.


@app
def errors(environ, start_response):
    stream = environ["wsgi.errors"]
    stream.write("errors: one\n")
    stream.writelines(["errors: two\n", "errors: thr\u00e4\n"])
    stream.flush()
    return answer(start_response, b"written")


@app
def errors_bytes(environ, start_response):
    environ["wsgi.errors"].write(b"bytes")
    return answer(start_response, b"no")


# start_response.


@app
def twice(environ, start_response):
    start_response("200 OK", TEXT)
    start_response("200 OK", TEXT)
    return [b"no"]


@app
def exc_info_before(environ, start_response):
    start_response("200 OK", [*TEXT, ("X-First", "yes")])
    try:
        raise KeyError("early")
    except KeyError:
        start_response("503 Busy", TEXT, sys.exc_info())
    return [b"busy"]


@app
def exc_info_after(environ, start_response):
    start_response("200 OK", TEXT)

    def pieces():
        yield b"piece"
        try:
            raise KeyError("too late")
        except KeyError:
            start_response("500 Oh", TEXT, sys.exc_info())
        yield b"never"

    return pieces()


@app
def never(environ, start_response):
    return [b"no head"]


@app
def never_streamed(environ, start_response):
    yield b"no head"


@app
def late(environ, start_response):
    yield b""
    start_response("201 Created", TEXT)
    yield b"late"


@app
def tuple_headers(environ, start_response):
    start_response("200 OK", tuple(TEXT))
    return [b"tuple"]


def head(name, status, headers):
    def run(environ, start_response):
        start_response(status, headers)
        return [b"body"]

    APPS[name] = run


head("header_number", "200 OK", [*TEXT, ("X-Number", 1)])
head("header_bytes", "200 OK", [*TEXT, (b"X-Bytes", b"1")])
head("header_split", "200 OK", [*TEXT, ("X-Split", "a\r\nSet-Cookie: stolen=1")])
head("header_control", "200 OK", [*TEXT, ("X-Control", "a\x01b")])
head("header_name", "200 OK", [*TEXT, ("X Name", "b")])
head("header_unicode", "200 OK", [*TEXT, ("X-Euro", "\u20ac")])
head("header_safe", Safe("200 OK"), [*TEXT, (Safe("X-Safe"), Safe("yes"))])
head("header_latin", "200 OK", [*TEXT, ("X-Latin", "gr\xfcn")])
head("header_connection", "200 OK", [*TEXT, ("Connection", "close")])
head("header_transfer", "200 OK", [*TEXT, ("Transfer-Encoding", "chunked")])
head("header_upgrade", "200 OK", [*TEXT, ("Upgrade", "h2c")])
head("header_repeated", "200 OK", [*TEXT, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
head("status_number", 200, TEXT)
head("status_short", "20 OK", TEXT)
head("status_words", "ok", TEXT)
head("status_bare", "299", TEXT)
head("status_split", "200 OK\r\nX: y", TEXT)
head("status_interim", "103 Early Hints", TEXT)
head("status_own", "299 Of My Own", TEXT)
head("no_content", "204 No Content", [])
head("not_modified", "304 Not Modified", [("ETag", '"x"')])
head("length_word", "200 OK", [*TEXT, ("Content-Length", "ten")])
head("length_twice", "200 OK", [*TEXT, ("Content-Length", "4"), ("Content-Length", "5")])


# write().


@app
def write(environ, start_response):
    send = start_response("200 OK", TEXT)
    send(b"a")
    send(b"")
    send(b"b")
    return []


@app
def write_and_iterate(environ, start_response):
    send = start_response("200 OK", TEXT)
    send(b"a")
    return [b"b", b"c"]


@app
def write_text(environ, start_response):
    start_response("200 OK", TEXT)("text")
    return []


# Bodies.


def body(name, make, headers=()):
    def run(environ, start_response):
        start_response("200 OK", [*TEXT, *headers])
        return make(environ)

    APPS[name] = run


body("one", lambda environ: [b"body"])
body("many", lambda environ: [b"bo", b"", b"dy"])
body("empty", lambda environ: [])
body("generator", lambda environ: (piece for piece in (b"bo", b"", b"dy")))
body("len_one", lambda environ: Sized(environ, [b"body"], 1))
body("len_two", lambda environ: Sized(environ, [b"bo", b"dy"], 2))
body("nothing", lambda environ: None)
body("text", lambda environ: "body")
body("text_piece", lambda environ: [b"bo", "dy"])
body("text_streamed", lambda environ: iter(["body"]))
body("number", lambda environ: 7)
body("just_bytes", lambda environ: b"body")
body("bytearray", lambda environ: [bytearray(b"bo"), memoryview(b"dy")])
body("long_list", lambda environ: [b"body and more"], [("Content-Length", "4")])
body("long_stream", lambda environ: Closing(environ, [b"bo", b"dy and", b"more"]), [("Content-Length", "4")])
body("short_list", lambda environ: [b"bo"], [("Content-Length", "4")])
body("short_stream", lambda environ: Closing(environ, [b"b", b"o"]), [("Content-Length", "4")])
body("exact_stream", lambda environ: Closing(environ, [b"bo", b"dy"]), [("Content-Length", "4")])
body("counted", lambda environ: Closing(environ, [b"bo", b"dy"]))
body("close_fails", lambda environ: Closing(environ, [b"bo", b"dy"], ValueError("in close")))
body("fails_at_once", lambda environ: Closing(environ, [ValueError("at once")]))
body("fails_midway", lambda environ: Closing(environ, [b"bo", ValueError("midway")]))


@app
def closed(environ, start_response):
    return answer(start_response, CLOSED.get(environ["QUERY_STRING"], 0))


@app
def large(environ, start_response):
    start_response("200 OK", TEXT)
    return Closing(environ, [b"x" * 100_000] * 30)


# Errors.


@app
def fails(environ, start_response):
    start_response("200 OK", [*TEXT, ("X-Secret", "kept")])
    raise ValueError("oh no, a secret")


@app
def interrupted(environ, start_response):
    raise KeyboardInterrupt("oh no")


@app
def generator_exit(environ, start_response):
    raise GeneratorExit("oh no")


# wsgi.file_wrapper.


def wrapped(environ, start_response, headers, file, *size):
    start_response("200 OK", [*TEXT, *headers])
    wrapper = environ.get("wsgi.file_wrapper")
    return wrapper(file, *size) if wrapper is not None else [b"no wrapper"]


@app
def file(environ, start_response):
    size = os.path.getsize(__file__)
    return wrapped(environ, start_response, [("Content-Length", str(size))], open(__file__, "rb"))


@app
def file_rest(environ, start_response):
    opened = open(__file__, "rb")  # the server closes it  # noqa: SIM115
    opened.seek(100)
    return wrapped(environ, start_response, [], opened, 10)


@app
def file_part(environ, start_response):
    return wrapped(environ, start_response, [("Content-Length", "10")], open(__file__, "rb"), 4096)


@app
def file_memory(environ, start_response):
    return wrapped(environ, start_response, [], io.BytesIO(b"in memory"), 4)


class Pipe:
    """No descriptor, no close(): the least that a file may be."""

    def __init__(self):
        self.pieces = [b"a", b"b", b"c"]

    def read(self, size):
        return self.pieces.pop(0) if self.pieces else b""


@app
def file_least(environ, start_response):
    return wrapped(environ, start_response, [], Pipe())


# Time.


@app
def slowly(environ, start_response):
    """The second piece waits for a file that the query names."""
    start_response("200 OK", TEXT)
    yield b"first"
    while not os.path.exists(environ["QUERY_STRING"]):
        time.sleep(0.005)
    yield b"second"


@app
def forever(environ, start_response):
    start_response("200 OK", TEXT)
    return Closing(environ, iter(lambda: b"x" * 1000, None))


MEETING = threading.Barrier(int(os.environ.get("MEETING", "1")), timeout=20)


@app
def meet(environ, start_response):
    """Returns when as many requests as MEETING says are in here at once."""
    MEETING.wait()
    return answer(start_response, b"met")


@app
def sleep(environ, start_response):
    time.sleep(float(environ["QUERY_STRING"]))
    return answer(start_response, b"slept")


@app
def leave(environ, start_response):
    sys.exit(3)


if os.environ.get("VALIDATE"):
    APPS = {name: validator(each) for name, each in APPS.items()}


def application(environ, start_response):
    name = environ["PATH_INFO"].split("/")[1] if environ["PATH_INFO"] else "asterisk"
    return APPS[name](environ, start_response)
