"""Starts one real worker in a process of its own, as a gateway does but by exec: what is imported is what a
worker imports.

usage: launch.py SPEC_JSON SEAT BOARD_FD LEASH_FD LOG_READ_FD
"""

import json
import socket
import sys
from types import SimpleNamespace

from vassals.worker.main import run_worker

spec_json, seat, board_fd, leash_fd, log_read_fd = sys.argv[1:]
document = json.loads(spec_json)
document["app"] = SimpleNamespace(**document["app"])
document["engine"] = SimpleNamespace(**document["engine"])
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
    int(board_fd),
    socket.socket(fileno=int(leash_fd)),
    int(log_read_fd),
)
