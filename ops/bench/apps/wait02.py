"""Waits for 0.2 ms, as an app does for a cache."""

import time

from hello import application as hello


def application(environ, start_response):
    time.sleep(0.0002)
    return hello(environ, start_response)
