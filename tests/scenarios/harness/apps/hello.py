"""Answers its own name from the environment, so that versions of a vassal can be told apart."""

import os

BODY = os.environ.get("GREETING", "hello").encode()


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))])
    return [BODY]
