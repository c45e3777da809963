"""An app whose requests do not come back, in every way that there is. `?s=N` is for how many seconds.

`/sleep` waits in Python; `/spin` computes; `/held` blocks in C with the interpreter's lock held, for ever; `/deaf` ignores
every signal that can be ignored first; `/stream` answers and then goes on for ever; `/read` waits for a body; `/die` ends
the process; `/` answers.
"""

import ctypes
import os
import signal
import threading
import time
from urllib.parse import parse_qs


def application(environ, start_response):
    path = environ["PATH_INFO"].strip("/").split("/")[0]
    query = parse_qs(environ["QUERY_STRING"])
    seconds = float(query.get("s", ["60"])[0])
    if path == "sleep":
        time.sleep(seconds)
    elif path == "spin":
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pass
    elif path == "held":
        held()
    elif path == "deaf":
        if threading.current_thread() is threading.main_thread():
            for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
                signal.signal(each, signal.SIG_IGN)
        time.sleep(seconds)
    elif path == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif path == "stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return stream(seconds)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


def stream(seconds):
    yield b"begun"
    time.sleep(seconds)
    yield b"ended"


def held():
    """A read that never ends, of a library that does not let go of the lock; it is begun again after a signal."""
    reading, _writing = os.pipe()
    ctypes.PyDLL(None).read(reading, ctypes.create_string_buffer(1), 1)
