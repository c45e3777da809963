"""Waits for 5 ms; at /work the first of its workers answers 500 at once, as one does that has lost its database."""

import time

import uwsgi
from hello import application as hello


def application(environ, start_response):
    if environ["PATH_INFO"] == "/work" and uwsgi.worker_id() == 1:
        start_response("500 Internal Server Error", [("Content-Length", "0")])
        return []
    time.sleep(0.005)
    return hello(environ, start_response)
