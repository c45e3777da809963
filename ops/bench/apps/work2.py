"""Computes for 2 ms of its processor's time."""

import time

from hello import application as hello


def application(environ, start_response):
    until = time.thread_time() + 0.002
    while time.thread_time() < until:
        pass
    return hello(environ, start_response)
