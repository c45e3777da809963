"""Answers with who it is: WHO, the worker's number, its pid; with 503 while the directory MARKS has a file FAIL-WHO. `/hold`
waits until the file HOLD there has gone, and a worker that starts until NOT_YET, and NOT_YET-NUMBER for its number, have."""

import os
import time

import uwsgi

WHO = os.environ.get("WHO", "-")
MARKS = os.environ["MARKS"]
LINE = f"{WHO} {uwsgi.worker_id()} {os.getpid()}".encode()


def there(name):
    return os.path.exists(os.path.join(MARKS, name))


while there("NOT_YET") or there(f"NOT_YET-{uwsgi.worker_id()}"):
    time.sleep(0.01)


def application(environ, start_response):
    if environ["PATH_INFO"] == "/hold":
        while there("HOLD"):
            time.sleep(0.01)
    status = "503 Failing" if there(f"FAIL-{WHO}") else "200 OK"
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(LINE)))])
    return [LINE]
