"""Ports for listeners: below the range that the kernel takes outgoing connections' ports from."""

import os
import random
import socket

LOWEST, HIGHEST = 20000, 32000  # net.ipv4.ip_local_port_range begins at 32768
_random = random.Random(os.getpid() ^ int.from_bytes(os.urandom(4), "big"))


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now and no outgoing connection will be given."""
    for _ in range(200):
        port = _random.randint(LOWEST, HIGHEST)
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port found in 200 tries")
