"""Unix sockets that a process left behind when it was killed: apart from those of a living one."""

import errno
import os
import socket
import stat


def is_stale(path: str, kind: int = socket.SOCK_STREAM) -> bool:
    """True for a socket of this kind that nobody has, False when there is nothing. Raises OSError for anything else that is
    there, a living socket (EADDRINUSE) among it: neither is ours to unlink."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(status.st_mode):
        raise OSError(errno.EEXIST, "there is something else than a socket at this path")
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            pass  # its backlog is full, or it is not for us to connect to: somebody is there
    raise OSError(errno.EADDRINUSE, "another program listens there")
