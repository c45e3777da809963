"""The emperor's side of the spawner and of gateways, small enough to see through: a subreaper that starts
them and talks to them, and at the end finds out whether anything is left."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emperor.config.spec import AppSpec
from emperor.control.channel import Channel, ChannelClosed
from emperor.control.messages import GatewaySpec
from emperor.supervisor import process

ROOT = Path(__file__).parents[2]
FAKE = Path(__file__).with_name("fake_worker.py")
DEADLINE_S = 20.0


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = DEADLINE_S) -> Any:
    """The first true value of `condition()`; an AssertionError that says `what` was waited for."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited {timeout_s:g} s for {what}")


class Gateway:
    """One gateway as the emperor sees it."""

    def __init__(self, pid: int, path: Path) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.path = path
        self.channel: Channel | None = None
        self.hello: dict[str, Any] = {}
        self.state = ("", "")
        self.workers: dict[int, dict[str, Any]] = {}
        self.seen: list[dict[str, Any]] = []

    def connect(self, board: bool = False) -> list[int]:
        """Connect as a new emperor and say hello; the descriptors that came with the answer."""

        def connected() -> Channel | None:
            assert not self.ended(), "the gateway has ended"
            with contextlib.suppress(ConnectionRefusedError):
                return Channel.connect(str(self.path))
            return None

        if self.channel is not None:
            self.channel.close()
        self.channel = wait_until(connected, f"a gateway to listen at {self.path}")
        self.hello, fds = self.channel.request(
            {"op": "hello", "pid": os.getpid(), "version": "0", "board": board}
        )
        self.state = (self.hello["state"], self.hello["reason"])
        self.workers = {worker["seat"]: worker for worker in self.hello["workers"]}
        return fds

    def next(self, timeout_s: float = DEADLINE_S) -> dict[str, Any]:
        assert self.channel is not None
        message, _ = self.channel.receive_wait(timeout_s)
        self.seen.append(message)
        if message.get("op") == "worker":
            self.workers[message["seat"]] = message
        elif message.get("op") == "state":
            self.state = (message["state"], message["reason"])
        return message

    def wait_message(self, **wanted: Any) -> dict[str, Any]:
        """The next message that has all of these keys and values."""
        while True:
            message = self.next()
            if all(message.get(key) == value for key, value in wanted.items()):
                return message

    def wait_state(self, state: str) -> str:
        """Wait until the gateway is in `state`; its reason."""
        while self.state[0] != state:
            self.next()
        return self.state[1]

    def wait_workers(self, state: str, count: int) -> dict[int, int]:
        """Wait until `count` seats are in `state` at one time; seat → pid."""
        while True:
            pids = {seat: worker["pid"] for seat, worker in self.workers.items() if worker["state"] == state}
            if len(pids) >= count:
                return pids
            self.next()

    def log_lines(self) -> list[tuple[str, str]]:
        """All log lines that have come so far."""
        return [
            tuple(line) for message in self.seen if message.get("op") == "log" for line in message["lines"]
        ]

    def wait_line(self, part: str) -> str:
        while True:
            for _, text in self.log_lines():
                if part in text:
                    return text
            self.next()

    def ended(self) -> bool:
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        return bool(poller.poll(0))

    def wait_exit(self, timeout_s: float = DEADLINE_S) -> process.Exit:
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        assert poller.poll(timeout_s * 1000), f"the gateway did not end within {timeout_s:g} s"
        _, status = os.waitpid(self.pid, 0)
        self.close()
        return process.Exit.from_status(status)

    def close(self) -> None:
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class EmperorSide:
    """Starts a spawner and gateways. A context manager: what it started has gone afterwards."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log_path = directory / "log"
        self.gateways: list[Gateway] = []
        self.strangers_before = process.children()
        self.log_fd = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self.spawner_pid = 0
        self.start_spawner()

    def __enter__(self) -> EmperorSide:
        return self

    def start_spawner(self) -> None:
        own, spawners = socket.socketpair()
        with spawners:
            self.spawner_pid = process.spawn_exec(
                [sys.executable, str(FAKE)],
                {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
                {1: self.log_fd, 2: self.log_fd, 3: spawners.fileno()},
                "the spawner",
            )
        self.channel = Channel(own)

    def spec(self, act: str = "ok", **changes: Any) -> GatewaySpec:
        values: dict[str, Any] = {
            "name": "blog",
            "generation": 3,
            "app": AppSpec(module=act, env=tuple(changes.pop("env", {}).items())),
            "processes": 1,
            "endpoint": "/nowhere",
            "token": "ab" * 32,
            "config_path": str(self.directory / "blog.ini"),
            "title": "blog",
        }
        return GatewaySpec(**{**values, **changes})

    def spawn(self, spec: GatewaySpec, env: dict[str, str] | None = None, **message: Any) -> Gateway:
        import json

        path = self.directory / f"gw{len(self.gateways)}.sock"
        fds = []
        with socket.socket(socket.AF_UNIX) as control:
            control.bind(str(path))
            try:
                for text in (json.dumps(spec.to_json()), "EMPBOARD"):
                    fds.append(os.memfd_create("test"))
                    os.write(fds[-1], text.encode())
                environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} if env is None else env
                answer, _ = self.channel.request(
                    {
                        "op": "spawn",
                        "name": spec.name,
                        "generation": spec.generation,
                        "mode": "fork",
                        "env": environment,
                        **message,
                    },
                    [control.fileno(), *fds, self.log_fd],
                    timeout_s=DEADLINE_S,
                )
            finally:
                for fd in fds:
                    os.close(fd)
        gateway = Gateway(answer["pid"], path)
        self.gateways.append(gateway)
        return gateway

    def end_spawner(self) -> None:
        """Hang up; the spawner ends by itself."""
        self.channel.close()
        if self.spawner_pid:
            os.waitpid(self.spawner_pid, 0)
            self.spawner_pid = 0

    def log(self) -> str:
        return self.log_path.read_text()

    def __exit__(self, *_: object) -> None:
        stuck = []
        for gateway in self.gateways:
            if gateway.pidfd < 0:
                continue
            with contextlib.suppress(ChannelClosed, OSError, AssertionError):
                gateway.connect()
                assert gateway.channel is not None
                gateway.channel.send({"op": "stop"})
                gateway.channel.flush_wait(1.0)
            try:
                gateway.wait_exit(5)
            except AssertionError:
                stuck.append(gateway.pid)
                process.signal_pidfd(gateway.pidfd, signal.SIGKILL)
                gateway.wait_exit()
        self.end_spawner()
        os.close(self.log_fd)

        def left() -> set[int]:
            for pid in process.children() - self.strangers_before:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            return process.children() - self.strangers_before

        deadline = time.monotonic() + 5
        while (remaining := left()) and time.monotonic() < deadline:
            time.sleep(0.01)
        for pid in remaining:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        assert not remaining, f"processes were left behind: {remaining}"
        assert not stuck, f"gateways did not leave: {stuck}"
