"""A tenant that attacks its own backplane and page, each attack in a process of its own that leaves by itself.

`/truncate` tries to shrink the page; `/scribble` writes noise over all of it; `/flood` throws messages at the backplane,
with and without a HELLO; `/ring` rings the router's bell without end; `/spin` only burns the same time. `?s=N` is for how
many seconds. The answer says what came of it.
"""

import mmap
import os
import random
import signal
import time
from urllib.parse import parse_qs


def application(environ, start_response):
    attack = environ["PATH_INFO"].strip("/")
    seconds = float(parse_qs(environ["QUERY_STRING"]).get("s", ["1"])[0])
    if attack == "truncate":
        outcome = truncate()
    elif attack in ATTACKS:
        outcome = apart(ATTACKS[attack], seconds)
    else:
        outcome = "nothing"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{outcome}\n".encode()]


def page():
    """The descriptor of the page that this worker shares with the router."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if "emperor-board" in os.readlink(f"/proc/self/fd/{name}"):
                return int(name)
        except OSError:
            continue
    raise LookupError("no page")


def truncate():
    try:
        os.ftruncate(page(), 0)
    except PermissionError as error:
        return f"refused {error.errno}"
    return "truncated"


def apart(attack, seconds):
    """Run the attack in a process that nobody waits for."""
    pid = os.fork()
    if pid == 0:
        if os.fork() == 0:
            signal.alarm(int(seconds) + 5)
            try:
                attack(time.monotonic() + seconds)
            finally:
                os._exit(0)
        os._exit(0)
    os.waitpid(pid, 0)
    return "under way"


def scribble(until):
    fd = page()
    size = os.fstat(fd).st_size
    with mmap.mmap(fd, size) as memory:
        while time.monotonic() < until:
            start = random.randrange(0, size, 8)
            memory[start : start + 8] = os.urandom(8)
            if random.random() < 0.01:
                time.sleep(0.0005)


def spin(until):
    while time.monotonic() < until:
        os.urandom(8)


def flood(until):
    import zmq

    endpoint = "ipc://" + os.environ["BACKPLANE"]
    context = zmq.Context()
    sockets = []
    for _ in range(4):
        sock = context.socket(zmq.DEALER)
        sock.setsockopt(zmq.LINGER, 0)
        sock.setsockopt(zmq.SNDHWM, 64)
        sock.connect(endpoint)
        sockets.append(sock)
    junk = [b"", b"x" * 15, os.urandom(600), b"\x21" + bytes(15), os.urandom(200_000)]
    while time.monotonic() < until:
        for sock in sockets:
            try:
                sock.send(random.choice(junk), zmq.NOBLOCK)
            except zmq.Again:
                time.sleep(0.0002)
    context.destroy(0)


def ring(until):
    # vassals/bells.py: 8 is the router's.
    while time.monotonic() < until:
        os.eventfd_write(8, 1)


ATTACKS = {"ring": ring, "scribble": scribble, "flood": flood, "spin": spin}
