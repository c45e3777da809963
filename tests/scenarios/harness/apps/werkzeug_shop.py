"""Werkzeug without a framework round it: a signed cookie, uploads, a file in ranges, and streamed answers."""

import hashlib
import hmac
import json
import os
import time

from werkzeug.http import generate_etag
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response
from werkzeug.wsgi import wrap_file

KEY = b"for tests only"


def signed(count):
    return f"{count}.{hmac.new(KEY, str(count).encode(), hashlib.sha256).hexdigest()}"


def visits(request):
    cookie = request.cookies.get("visits", "")
    count = cookie.partition(".")[0]
    count = int(count) + 1 if cookie and hmac.compare_digest(cookie, signed(count)) else 1
    answer = Response(json.dumps({"visits": count}))
    answer.set_cookie("visits", signed(count))
    return answer


def upload(request):
    given = request.files["file"]
    digest = hashlib.sha256(given.stream.read()).hexdigest()
    return Response(json.dumps({"name": given.filename, "sha256": digest, "note": request.form["note"]}))


def size(request):
    return Response(json.dumps({"size": request.files["file"].stream.seek(0, os.SEEK_END)}))


def stream(request):
    return Response((f"{n}\n" for n in range(5000)), mimetype="text/plain")


def file(request):
    path = request.args["path"]
    opened = open(path, "rb")  # Werkzeug closes it  # noqa: SIM115
    answer = Response(wrap_file(request.environ, opened), mimetype="text/plain", direct_passthrough=True)
    answer.content_length = length = os.path.getsize(path)
    answer.set_etag(generate_etag(path.encode()))
    return answer.make_conditional(request, accept_ranges=True, complete_length=length)


def slowly(request):
    go = request.args["path"]

    def pieces():
        yield "first"
        while not os.path.exists(go):
            time.sleep(0.005)
        yield "second"

    return Response(pieces(), mimetype="text/plain")


def endless(request):
    closed = request.args["path"]

    def pieces():
        try:
            while True:
                yield "x" * 1000
        finally:
            open(closed, "w").close()

    return Response(pieces(), mimetype="text/plain")


VIEWS = {view.__name__: view for view in (visits, upload, size, stream, file, slowly, endless)}
MAP = Map([Rule(f"/{name}", endpoint=name) for name in VIEWS])


@Request.application
def application(request):
    return MAP.bind_to_environ(request.environ).dispatch(
        lambda endpoint, values: VIEWS[endpoint](request), catch_http_exceptions=True
    )
