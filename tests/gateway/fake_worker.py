"""Stands in for `vassals.worker.main` where a test is about the gateway: what it does is named by the app's
module.

Run as a program it is a spawner whose workers are these.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from emperor.control.messages import GatewaySpec

grown = bytearray()


def run_worker(
    spec: GatewaySpec, seat: int, board_fd: int, leash: socket.socket, log_read_fd: int
) -> NoReturn:
    act = spec.app.module or ""
    marks = dict(spec.app.env)

    def say(state: str, **more: Any) -> None:
        leash.sendall(json.dumps({"state": state, **more}).encode() + b"\n")

    if "FAIL" in marks and os.path.exists(marks["FAIL"]):
        say("failed", reason="no database (app.py:9)")
        sys.exit(70)
    match act:
        case "fail":
            say("failed", reason="ZeroDivisionError: division by zero (app.py:3)", traceback="one\ntwo")
            sys.exit(70)
        case "fail-hang":
            say("failed", reason="no (app.py:1)")
            time.sleep(60)
        case "exit-3":
            sys.exit(3)
        case "raise":
            raise RuntimeError("the worker itself is broken")
        case "hang":
            time.sleep(60)
        case "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        case "crash-once":
            if not os.path.exists(marks["MARK"]):
                open(marks["MARK"], "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
        case "hook-hang":
            say("hook", reason="pre-hook x")
            say("hook", reason="")
            say("hook", reason="post-fork-hook db:connect")
            time.sleep(60)
        case "slow-second":
            if not (mark := Path(marks["MARK"])).exists():
                mark.touch()
            else:
                while mark.exists():
                    time.sleep(0.01)
        case "grow-once":
            if not os.path.exists(marks["MARK"]):
                open(marks["MARK"], "w").close()
                grown.extend(b"x" * (256 * 1024 * 1024))
        case "nonsense":
            leash.sendall(
                b'garbage\n[1]\n{"state": "flying"}\n{"state": "ready"}\n{"state": ["x"]}\n{"no": 1}\n'
            )
        case "talk":
            os.write(1, b"to stdout\nto std")
            os.write(2, b"err\nbad \xff byte\nno end")
        case "look":
            import random

            names = sorted(int(name) for name in os.listdir("/proc/self/fd"))
            kinds = {
                fd: os.readlink(f"/proc/self/fd/{fd}")
                for fd in names
                if os.path.exists(f"/proc/self/fd/{fd}")
            }
            seen = {
                "fds": kinds,
                "board": os.pread(board_fd, 8, 0).decode(),
                "leash_fd": leash.fileno(),
                "log_read_fd": log_read_fd,
                "board_fd": board_fd,
                "environ": dict(os.environ),
                "uids": os.getresuid(),
                "gids": os.getresgid(),
                "groups": os.getgroups(),
                "sid": os.getsid(0),
                "pid": os.getpid(),
                "random": random.random(),
                "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
                "sigchld": str(signal.getsignal(signal.SIGCHLD)),
            }
            print("SEEN " + json.dumps(seen), flush=True)
        case "daemon":
            if os.fork() == 0:
                os.setsid()
                leash.close()
                time.sleep(60)
                os._exit(0)
    signal.signal(signal.SIGUSR1, lambda *_: say("worn", reason="max-requests: 3 served"))
    say("loaded")
    if act == "refused-once" and not os.path.exists(marks["MARK"]):
        open(marks["MARK"], "w").close()
        say("refused", code=3, reason="generation 7 is not expected")
        sys.exit(0)
    say("ready")
    if act == "hook-hang-ready":
        say("hook", reason="worker-ready-hook db:warm")
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    leash.setblocking(False)
    poller = select.poll()
    poller.register(leash.fileno(), select.POLLIN)
    while True:
        poller.poll()
        orders = leash.recv(4096)
        if not orders:
            sys.exit(0)
        if b"drain" in orders and act != "stubborn":
            sys.exit(0)


if __name__ == "__main__":
    sys.modules["vassals.worker.main"] = sys.modules["__main__"]
    sys.argv.pop(0)
    if sys.argv and sys.argv[0] == "gateway":
        from vassals.gateway.main import run_gateway

        run_gateway()
    from vassals import spawner

    fork = os.fork

    def fork_if_allowed() -> int:
        if os.path.exists(os.environ.get("NO_FORK", "")):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    os.fork = fork_if_allowed
    spawner.main()
