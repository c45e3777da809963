"""Writes down each request before anything else, in a file that outlives the worker, and answers after 0.2 ms with the
worker's pid. The path of the file comes with the request, as FILE?NUMBER."""

import os
import time

from hello import application as hello

files = {}


def application(environ, start_response):
    if environ["PATH_INFO"] == "/":
        return hello(environ, start_response)
    path = environ["PATH_INFO"]
    if path not in files:
        files[path] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(files[path], environ["QUERY_STRING"].encode() + b"\n")
    time.sleep(0.0002)
    said = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(said)))])
    return [said]
