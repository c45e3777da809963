"""Starts one real worker in a process of its own, as a gateway does but by exec: what is imported is what a
worker imports.

usage: launch.py SPEC_JSON SEAT BOARD_FD LEASH_FD LOG_READ_FD [ROUTER_BELL_FD BELL_FD]
"""

import fcntl
import json
import os
import socket
import sys
from types import SimpleNamespace

from vassals.bells import BELLS_FD
from vassals.worker.main import run_worker


def out_of_the_way(fd: str) -> int:
    moved = fcntl.fcntl(int(fd), fcntl.F_DUPFD_CLOEXEC, 32)
    os.close(int(fd))
    return moved


spec_json, seat, *fds = sys.argv[1:]
board_fd, leash_fd, log_read_fd, *bells = map(out_of_the_way, fds)
document = json.loads(spec_json)
document["bells"] = max(0, len(bells) - document["routers"])
for index, fd in enumerate(bells):
    os.dup2(fd, BELLS_FD + index, inheritable=False)
    os.close(fd)
if document["remotes"]:
    from emperor.config.spec import RemoteRouter

    document["remotes"] = tuple(map(RemoteRouter.from_json, document["remotes"]))
document["app"] = SimpleNamespace(**document["app"])
document["engine"] = SimpleNamespace(**document["engine"])
if document["engine"].interface == "asgi":
    from emperor.config.deadlines import NO_DEADLINES
    from emperor.config.spec import EngineSpec

    document["engine"] = EngineSpec.from_json(vars(document["engine"]))
    document["deadlines"] = NO_DEADLINES
if document["recycling"]:
    # A gateway has it already; this process need not, where a worker would not use it.
    from emperor.config.recycling import Recycling

    document["recycling"] = Recycling.from_json(document["recycling"])
else:
    document["recycling"] = SimpleNamespace(max_requests=0, minds_exceptions=False)
if document["hooks"]:
    from emperor.config.hooks import Hooks

    document["hooks"] = Hooks.from_json(document["hooks"])
else:
    document["hooks"] = SimpleNamespace(calls=False)
run_worker(
    SimpleNamespace(**document),  # type: ignore[arg-type]
    int(seat),
    board_fd,
    socket.socket(fileno=leash_fd),
    log_read_fd,
)
