"""A `FakeWorker` in a process of its own, which a test can kill or give another uid.

The process is ``python -m tests.router.remote``; each line on its stdin is ``[method, arguments]``, each line on its stdout
the answer. A `Request` stays there and is named by its stream.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import zmq

from tests.router.worker import FakeWorker, Request, Seat

ROOT = Path(__file__).resolve().parents[2]


class Remote:
    """The test's end. Any method of `FakeWorker` can be called by name."""

    def __init__(
        self, seat: Seat, board_fd: int, uid: int | None = None, bells: tuple[int, int] = (-1, -1)
    ) -> None:
        told = {**dataclasses.asdict(seat), "token": seat.token.hex()}
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.router.remote"),
                *(json.dumps(told), str(board_fd), str(uid or ""), *map(str, bells)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(board_fd, *(fd for fd in bells if fd >= 0)),
            cwd=ROOT,
        )
        self.pid = self._process.pid
        assert self._line() == "here"

    def _line(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the worker's process has ended"
        return json.loads(line)

    def call(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Call a method of the worker there. A Request goes and comes as its stream's number."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([method, arguments, named]).encode() + b"\n")
        self._process.stdin.flush()
        answer = self._line()
        assert "error" not in answer, answer["error"]
        return answer["is"]

    def kill(self) -> None:
        """kill -9, and bury it."""
        os.kill(self.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        if self._process.poll() is None:
            self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


def _main() -> None:
    told, board_fd, uid = json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    bells = int(sys.argv[4]), int(sys.argv[5])
    seat = Seat(**{**told, "token": bytes.fromhex(told["token"])})
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    if uid:
        os.setgroups([])
        os.setgid(int(uid))
        os.setuid(int(uid))
    worker = FakeWorker(context, seat, board_fd, bells)
    requests: dict[int, Request] = {}
    print('"here"', flush=True)
    for line in sys.stdin:
        method, arguments, named = json.loads(line)
        arguments = [requests.get(each, each) if isinstance(each, int) else each for each in arguments]
        arguments = [
            each.encode() if isinstance(each, str) and method == "data" else each for each in arguments
        ]
        if "body" in named:
            named["body"] = named["body"].encode()
        try:
            result = getattr(worker, method)(*arguments, **named)
        except BaseException as error:
            print(json.dumps({"error": repr(error)}), flush=True)
            continue
        if isinstance(result, Request):
            requests[result.stream] = result
            result = result.stream
        print(json.dumps({"is": result if isinstance(result, (int, str, bool)) else None}), flush=True)


if __name__ == "__main__":
    _main()
