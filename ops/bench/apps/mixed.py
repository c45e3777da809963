"""A mixed load: 200 ms at /slow, 0.5 ms everywhere else."""

import time

from hello import application as hello


def application(environ, start_response):
    time.sleep(0.2 if environ["PATH_INFO"] == "/slow" else 0.0005)
    return hello(environ, start_response)
