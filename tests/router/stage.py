"""A real router process, with the emperor's side of it in the test: the sockets it is handed, the control connection, the
pages. What the emperor keeps over a router's death (sockets and pages) stays here too, so that a test can start a second."""

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import zmq

from emperor.control.channel import Channel
from emperor.control.messages import RouterEntry
from emperor.protocol import scoreboard
from emperor.supervisor import process
from emperor.supervisor.bells import Bells
from tests.router.client import Connection
from tests.router.remote import Remote
from tests.router.worker import Answering, FakeWorker, Request, Seat, echo
from tests.scenarios.harness.waiting import wait_for

TIMEOUT_S = 10.0


class Closes(Protocol):
    def close(self) -> None: ...


Closing = TypeVar("Closing", bound=Closes)


@dataclass
class Generation:
    """A generation's page and secret."""

    vassal: "Vassal"
    number: int
    token: bytes
    uid: int
    seats: int
    slots: int
    deck: int
    board_fd: int
    bells: Bells | None = None
    routers: int = 1

    def tell(self) -> None:
        """Tell the router to expect its workers."""
        bells = [] if self.bells is None else self.bells.for_router()
        self.vassal.stage.tell(fds=[self.board_fd, *bells], **self.order())

    def bells_of(self, seat: int) -> tuple[int, int]:
        """A seat's own and the router's; −1 where there are none."""
        if self.bells is None:
            return -1, -1
        fds = self.bells.for_gateway()
        return fds[self.routers + seat], fds[0]

    def order(self) -> dict[str, Any]:
        """What `tell` says; the page goes with it."""
        return {
            "op": "generation",
            "name": self.vassal.entry.name,
            "generation": self.number,
            "token": self.token.hex(),
            "uid": self.uid,
            "seats": self.seats,
            "slots": self.slots,
            "deck": self.deck,
            # What an emperor says that knows of several.
            **({"routers": self.routers} if self.routers > 1 else {}),
        }

    def activate(self, *kept: int) -> None:
        """New requests go here; the generations `kept` rest meanwhile."""
        name = self.vassal.entry.name
        self.vassal.stage.tell("activate", name=name, generation=self.number, kept=list(kept))

    def retire(self) -> None:
        self.vassal.stage.tell("retire", name=self.vassal.entry.name, generation=self.number)

    def seat(self, seat: int = 0) -> Seat:
        vassal = self.vassal
        return Seat(
            vassal.endpoint,
            vassal.entry.name,
            self.number,
            self.token,
            seat,
            self.seats,
            self.slots,
            self.deck,
            self.routers,
        )

    def stranger(self, seat: int = 0) -> FakeWorker:
        """A worker that has not said HELLO."""
        context = self.vassal.stage.context
        return self.vassal.stage.keep(
            FakeWorker(context, self.seat(seat), self.board_fd, self.bells_of(seat))
        )

    def worker(self, seat: int = 0) -> FakeWorker:
        """A worker that is ready."""
        worker = self.stranger(seat)
        worker.join()
        self.vassal.wait_link(seat=seat, generation=self.number)
        return worker

    def answering(self, answer: Callable[[FakeWorker, Request], None] = echo, seat: int = 0) -> Answering:
        """A worker that answers everything."""
        stage = self.vassal.stage
        made = Answering(
            lambda: FakeWorker(stage.context, self.seat(seat), self.board_fd, self.bells_of(seat)), answer
        )
        stage.closing.callback(made.stop)
        self.vassal.wait_link(seat=seat, generation=self.number)
        return made

    def remote(self, seat: int = 0, *, uid: int | None = None) -> Remote:
        """A worker in a process of its own, which has not said HELLO."""
        return self.vassal.stage.keep(Remote(self.seat(seat), self.board_fd, uid, self.bells_of(seat)))


@dataclass
class Vassal:
    """One vassal: its entry, its backplane's listening socket, its generations."""

    stage: "Stage"
    entry: RouterEntry
    listener: socket.socket
    endpoint: str
    generations: dict[int, Generation] = field(default_factory=dict)

    def tell(self, **changed: Any) -> None:
        """Tell the router this entry, with changes."""
        self.entry = RouterEntry.from_json({**self.entry.to_json(), **changed})
        known = any(each["name"] == self.entry.name for each in self.stage.hello()["vassals"])
        fds = [] if known else [self.listener.fileno()]
        self.stage.tell("vassal", fds, entry=self.entry.to_json())

    def generation(
        self,
        number: int = 1,
        *,
        seats: int = 2,
        slots: int = 1,
        deck: int = 8,
        uid: int | None = None,
        sealed: bool = True,
        tell: bool = True,
        bells: bool = False,
        routers: int = 1,
    ) -> Generation:
        made = Generation(
            self,
            number,
            secrets.token_bytes(32),
            os.getuid() if uid is None else uid,
            seats,
            slots,
            deck,
            scoreboard.create(seats, slots, routers, deck, sealed),
            Bells(seats, routers) if bells else None,
            routers,
        )
        self.stage.closing.callback(os.close, made.board_fd)
        if made.bells is not None:
            self.stage.closing.callback(made.bells.close)
        self.generations[number] = made
        if tell:
            made.tell()
        return made

    def active(self, number: int = 1, **shape: Any) -> Generation:
        """A generation that gets the requests."""
        made = self.generation(number, **shape)
        made.activate()
        return made

    def stats(self) -> dict[str, Any]:
        report: dict[str, Any] = self.stage.stats()["apps"][self.entry.name]
        return report

    def links(self, **wanted: int) -> list[dict[str, Any]]:
        return [
            link
            for link in self.stats()["links"]
            if all(link[key] == value for key, value in {"ready": 1, **wanted}.items())
        ]

    def wait_link(self, **wanted: int) -> dict[str, Any]:
        return wait_for(lambda: self.links(**wanted), TIMEOUT_S, self.stats, every_s=0.005)[0]

    def wait_no_link(self, **wanted: int) -> None:
        wait_for(lambda: not self.links(**wanted), TIMEOUT_S, self.stats, every_s=0.005)

    def wait_stat(self, key: str, value: Any) -> dict[str, Any]:
        return wait_for(
            lambda: (stats := self.stats())[key] == value and stats, TIMEOUT_S, self.stats, every_s=0.005
        )


class Stage:
    """Sockets, pages and one router process. ``options`` and ``env`` are the process's; ``under`` is a command that ends in
    executing what follows it."""

    def __init__(
        self,
        directory: Path,
        *options: str,
        env: dict[str, str] | None = None,
        under: tuple[str, ...] = (),
    ) -> None:
        self.directory = directory
        self.options = options
        self.under = under
        self.env = {**os.environ, **(env or {})}
        self.closing = contextlib.ExitStack()
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.closing.callback(self.context.destroy, 0)
        self.vassals: dict[str, Vassal] = {}
        self.events: list[dict[str, Any]] = []
        self.pid = 0
        self.log_path = directory / "log"
        self._control_socket = self.bind("control", listen=False)
        self._http = socket.socket()
        self.closing.callback(self._http.close)
        self._http.bind(("127.0.0.1", 0))
        self._http.listen(128)
        self._http.setblocking(False)
        self._uwsgi = self.bind("uwsgi")
        self._channel: Channel | None = None
        self.start()

    def bind(self, name: str, *, listen: bool = True) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        self.closing.callback(sock.close)
        sock.bind(str(self.directory / name))
        if listen:
            sock.listen(128)
        sock.setblocking(False)
        return sock

    def keep(self, thing: Closing) -> Closing:
        """Close it with the stage."""
        self.closing.callback(thing.close)
        return thing

    # The process

    def start(self) -> None:
        """Start a router on the sockets, and connect to it as its emperor. The table is empty."""
        log = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.pid = process.spawn_exec(
            [*self.under, sys.executable, "-m", "emperor.router", "--seat", "0", *self.options],
            self.env,
            {1: log, 2: log, 3: self._control_socket.fileno()},
            "router",
        )
        os.close(log)
        self.connect()

    def connect(self) -> Channel:
        """An emperor's connection; the newest counts."""

        def attempt() -> Channel | None:
            try:
                return Channel.connect(str(self.directory / "control"))
            except OSError:
                assert self.exit_status() is None, self.stderr()
                return None

        if self._channel is not None:
            self._channel.close()
        channel = self._channel = wait_for(attempt, TIMEOUT_S, self.stderr, every_s=0.01)
        assert channel is not None
        return channel

    def open_for_business(self) -> None:
        """Hand over the listeners and say that the table is whole."""
        self.tell("listen", [self._http.fileno()], kind="http", address="http")
        self.tell("listen", [self._uwsgi.fileno()], kind="uwsgi", address="uwsgi")
        self.tell("complete")

    def exit_status(self) -> int | None:
        """The wait status of the router if it has ended."""
        if not self.pid:
            return None
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            self.pid = 0
        return status if pid else None

    def wait_exit(self, timeout_s: float = TIMEOUT_S) -> int:
        """The exit code of the router, which must end by itself."""
        ended = wait_for(self._ended, timeout_s, self.stderr)
        assert ended is not None
        return os.waitstatus_to_exitcode(ended[0])

    def _ended(self) -> tuple[int] | None:
        status = self.exit_status()
        return None if status is None else (status,)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """The router's whole process stands still meanwhile."""
        tasks = Path(f"/proc/{self.pid}/task")
        os.kill(self.pid, signal.SIGSTOP)
        try:
            wait_for(
                lambda: all(
                    (task / "stat").read_text().rpartition(")")[2].split()[0] == "T"
                    for task in tasks.iterdir()
                ),
                TIMEOUT_S,
                every_s=0.001,
            )
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """kill -9, and bury it."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.pid = 0

    def stderr(self) -> str:
        return self.log_path.read_text(errors="replace")

    # Control

    @property
    def channel(self) -> Channel:
        assert self._channel is not None
        return self._channel

    def tell(self, op: str, fds: "list[int] | tuple[int, ...]" = (), **keys: Any) -> dict[str, Any]:
        """A request to the router. Raises ControlError when it refuses."""
        answer, descriptors = self.channel.request({"op": op, **keys}, fds, TIMEOUT_S)
        assert not descriptors
        return answer

    def hello(self) -> dict[str, Any]:
        return self.tell("hello", pid=os.getpid(), version="test")

    def stats(self) -> dict[str, Any]:
        report: dict[str, Any] = self.tell("stats")["router"]
        return report

    def heard(self) -> list[dict[str, Any]]:
        """All events so far."""
        self.events += [message for message, _ in self.channel.receive()]
        return self.events

    def wait_event(self, op: str, **wanted: Any) -> dict[str, Any]:
        """The first event like this; text values are regular expressions."""

        def fits(event: dict[str, Any]) -> bool:
            return event.get("op") == op and all(
                re.search(value, event[key]) if isinstance(value, str) else event[key] == value
                for key, value in wanted.items()
            )

        return wait_for(
            lambda: next(filter(fits, self.heard()), {}), TIMEOUT_S, lambda: self.events, every_s=0.005
        )

    def wait_log(self, text: str) -> str:
        """A line of the router's log in which this regular expression is found."""
        return wait_for(
            lambda: next((line for line in self.logged() if re.search(text, line)), ""),
            TIMEOUT_S,
            self.logged,
            every_s=0.005,
        )

    def logged(self) -> list[str]:
        return [text for event in self.heard() if event["op"] == "log" for _, text in event["lines"]]

    def vassal(self, name: str = "blog", *, tell: bool = True, **entry: Any) -> Vassal:
        """A vassal that is available, with its backplane. Not the default, unless said."""
        listener = self.bind(f"bp-{name}")
        endpoint = str(self.directory / f"bp-{name}")
        settings = {"domains": [f"{name}.localhost"], "available": True, **entry}
        made = Vassal(self, RouterEntry.from_json({"name": name, **settings}), listener, endpoint)
        self.vassals[name] = made
        if tell:
            made.tell()
        return made

    # Clients

    @property
    def http_address(self) -> tuple[str, int]:
        host, port = self._http.getsockname()
        return host, port

    @property
    def uwsgi_address(self) -> str:
        return str(self.directory / "uwsgi")

    def http(self, sends: bytes = b"", **options: Any) -> Connection:
        return self.keep(Connection(self.http_address, **options)).send(sends)

    def uwsgi(self, sends: bytes = b"", **options: Any) -> Connection:
        return self.keep(Connection(self.uwsgi_address, **options)).send(sends)

    @contextlib.contextmanager
    def scene(self) -> Iterator[None]:
        """One test's part of a shared router: what it adds is gone afterwards, and the router has not stumbled."""
        outer, self.closing = self.closing, contextlib.ExitStack()
        before, stderr_bytes = set(self.vassals), self.log_path.stat().st_size
        self.heard()
        self.events.clear()
        try:
            yield
            assert self.exit_status() is None, self.stderr()
            assert "Traceback" not in self.stderr()[stderr_bytes:], self.stderr()
        finally:
            scene, self.closing = self.closing, outer
            try:
                scene.close()
            finally:
                for name in set(self.vassals) - before:
                    self.tell("remove", name=name)
                    os.unlink(self.vassals.pop(name).endpoint)

    def close(self) -> None:
        self.closing.close()
        if self._channel is not None:
            self._channel.close()
        if self.pid:
            self.kill()


def said_of(lines: Iterable[str], what: str) -> int:
    """How often this was to be said, by these lines: what is repeated is counted in one of them."""
    found = [re.search(r"the last of ([0-9]+) more", line) for line in lines if what in line]
    return sum(1 if each is None else int(each[1]) for each in found)


@contextlib.contextmanager
def open_stage(
    *options: str, env: dict[str, str] | None = None, under: tuple[str, ...] = ()
) -> Iterator[Stage]:
    # pytest's own directories can be longer than a socket's path may be.
    directory = Path(tempfile.mkdtemp(prefix="er-"))
    directory.chmod(0o711)
    stage = Stage(directory, *options, env=env, under=under)
    try:
        yield stage
        # Whatever a client, a worker or an emperor sends: it is never an exception that nobody expected.
        assert "Traceback" not in stage.stderr(), stage.stderr()
    finally:
        stage.close()
        shutil.rmtree(directory)
