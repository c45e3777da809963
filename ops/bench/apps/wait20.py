"""Waits for 20 ms, as an app does for its database."""

import time

from hello import application as hello


def application(environ, start_response):
    time.sleep(0.020)
    return hello(environ, start_response)
