"""Waits for 20 ms, or for as many as its host says, and answers at /who which host that is."""

import os
import time

from hello import application as hello

NAME = os.environ.get("HOST_NAME", "").encode()
WAIT_S = float(os.environ.get("HOST_WAITS_MS", "20")) / 1000


def application(environ, start_response):
    time.sleep(WAIT_S)
    if environ["PATH_INFO"] == "/who":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(NAME)))])
        return [NAME]
    return hello(environ, start_response)
