"""Answers with what it was asked, as JSON: the CGI variables that any server must give alike, and the body's
digest."""

import hashlib
import json

KEPT = ("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "CONTENT_TYPE", "CONTENT_LENGTH")


def application(environ, start_response):
    size, digest = 0, hashlib.sha256()
    while piece := environ["wsgi.input"].read(65536):
        size += len(piece)
        digest.update(piece)
    said = {key: environ.get(key, "") for key in KEPT}
    said |= {key: value for key, value in environ.items() if key.startswith("HTTP_X_")}
    said |= {"host": environ["HTTP_HOST"].partition(":")[0], "size": size, "sha256": digest.hexdigest()}
    said["scheme"] = environ["wsgi.url_scheme"]
    body = json.dumps(said, sort_keys=True).encode() + b"\n"
    status = "404 Not Found" if environ["PATH_INFO"].startswith("/missing") else "200 OK"
    fields = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    fields += [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    start_response(status, fields)
    return [body]
