"""A spawner that cannot fork says so, names the limit, and goes on."""

import errno
import os
import socket

import pytest

from emperor.control.channel import Channel
from vassals import spawner


def test_a_fork_that_fails_is_refused_with_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    ours, theirs = socket.socketpair()
    message = {
        "op": "spawn",
        "name": "blog",
        "generation": 3,
        "mode": "fork",
        "env": {},
        "uid": None,
        "gid": None,
    }
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(os, "fork", full)
    with ours, theirs:
        channel = Channel(ours)
        with pytest.raises(spawner._Refused, match=r"blog\.3: cannot fork: Resource.*ulimit -u, TasksMax"):
            spawner._spawn(message, [0, 1, 2, 3], channel, 4)
        channel.close()
    assert len(os.listdir("/proc/self/fd")) == len(before) - 2
