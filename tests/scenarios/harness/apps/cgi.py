"""Answers with every CGI variable that it was given, as JSON, and with the name of the vassal in `$WHO`."""

import json
import os


def application(environ, start_response):
    said = {key: value for key, value in environ.items() if isinstance(value, str)}
    said |= {"who": os.environ.get("WHO", ""), "scheme": environ["wsgi.url_scheme"]}
    body = json.dumps(said, sort_keys=True).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
