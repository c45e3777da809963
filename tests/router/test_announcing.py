"""When a vassal is announced and taken back, with a given clock and a datagram socket that reads."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from emperor.config.announcing import Announcement, Announcing
from emperor.protocol import subscription
from emperor.protocol.subscription import SUBSCRIBE, UNSUBSCRIBE
from emperor.router import announcing
from emperor.router.announcing import Announcer
from emperor.router.signatures import Keys


class Stage:
    def __init__(self, path: Path) -> None:
        self.server = str(path / "server.sock")
        self.reader = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.reader.bind(self.server)
        self.reader.setblocking(False)
        self.now = 100.0
        self.serves = True
        self.places = {"127.0.0.1:0": "127.0.0.1:4001", "unix:/run/a.sock": "unix:/run/a.sock"}
        self.lines: list[str] = []
        self.again: list[Callable[[], None]] = []
        self.announcer = self.router()

    def router(self) -> Announcer:
        return Announcer(
            self,
            lambda: self.now,
            lambda: 1_700_000_000 + self.now,
            lambda _, call: self.again.append(call),
            lambda _, text: self.lines.append(text),
        )

    def served(self, _: str) -> tuple[bool, int, int]:
        return self.serves, 4, 2

    def bound(self, _: str, address: str) -> str:
        return self.places.get(address, "")

    def use(self, *said: Announcement, fds: tuple[int, ...] = (), every_s: float = 10.0) -> None:
        message: dict[str, Any] = {**Announcing(said, every_s).to_json(), "sockets": list(self.places)}
        self.announcer.use("blog", message, fds)

    def heard(self) -> list[tuple[int, str, str]]:
        found = []
        while True:
            try:
                said = subscription.parse(self.reader.recv(65536))
            except BlockingIOError:
                return found
            found.append((said.command, said.key, said.address))

    def pass_s(self, seconds: int) -> list[tuple[int, str, str]]:
        found = []
        for _ in range(seconds):
            self.now += 1
            self.announcer.look()
            found += self.heard()
        return found


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.announcer.close(leave=False)
    made.reader.close()


HERE = (SUBSCRIBE, "a.example", "127.0.0.1:4001")
GONE = (UNSUBSCRIBE, "a.example", "127.0.0.1:4001")


def test_at_once_and_then_as_often_as_asked(stage: Stage) -> None:
    stage.use(Announcement(stage.server, "a.example"))
    assert stage.heard() == [HERE]
    assert stage.pass_s(9) == []
    assert stage.pass_s(21) == [HERE] * 3


def test_only_while_it_serves_and_its_listener_is_open(stage: Stage) -> None:
    stage.serves = False
    stage.use(Announcement(stage.server, "a.example"))
    assert stage.pass_s(3) == []
    stage.serves = True
    assert stage.pass_s(1) == [HERE]
    stage.serves = False
    assert stage.pass_s(3) == [GONE]
    stage.serves = True
    assert stage.pass_s(1) == [HERE]
    listener = stage.places.pop("127.0.0.1:0")
    assert stage.pass_s(2) == [GONE]
    stage.places["127.0.0.1:0"] = listener
    assert stage.pass_s(1) == [HERE]


def test_another_address_takes_back_the_one_before(stage: Stage) -> None:
    stage.use(Announcement(stage.server, "a.example"))
    stage.heard()
    stage.places["127.0.0.1:0"] = "127.0.0.1:4002"
    assert stage.pass_s(1) == [GONE, (SUBSCRIBE, "a.example", "127.0.0.1:4002")]


@pytest.mark.parametrize(
    ("bound", "announced"),
    [
        ("0.0.0.0:4001", "127.0.0.1:4001"),
        ("[::]:4001", "127.0.0.1:4001"),
        ("unix:/run/a.sock", "/run/a.sock"),
        ("@a", "@a"),
        ("[::1]:4001", "[::1]:4001"),
    ],
)
def test_what_is_announced_can_be_connected_to(stage: Stage, bound: str, announced: str) -> None:
    stage.places["127.0.0.1:0"] = bound
    stage.use(Announcement(stage.server, "a.example"))
    assert stage.heard() == [(SUBSCRIBE, "a.example", announced)]


def test_a_listener_of_another_number_and_an_address_of_the_files_own(stage: Stage) -> None:
    stage.use(
        Announcement(stage.server, "a.example", socket=1),
        Announcement(stage.server, "b.example", "10.0.0.1:1"),
        Announcement(stage.server, "c.example", socket=2),
    )
    assert stage.heard() == [(SUBSCRIBE, "a.example", "/run/a.sock"), (SUBSCRIBE, "b.example", "10.0.0.1:1")]


def test_another_file_takes_back_what_it_does_not_name_and_repeats_nothing_else(stage: Stage) -> None:
    stage.use(Announcement(stage.server, "a.example"), Announcement(stage.server, "b.example"))
    stage.heard()
    stage.use(Announcement(stage.server, "a.example"), every_s=5.0)
    assert stage.heard() == [(UNSUBSCRIBE, "b.example", "127.0.0.1:4001")]
    assert stage.pass_s(5) == [HERE]
    stage.use()
    assert stage.heard() == [GONE]
    assert stage.announcer.report("blog") == []


def test_the_end_takes_all_back_unless_another_router_goes_on(stage: Stage) -> None:
    other = stage.router()
    stage.use(Announcement(stage.server, "a.example"))
    stage.heard()
    stage.announcer.close(leave=False)
    assert stage.pass_s(30) == []
    stage.announcer = other
    stage.use(Announcement(stage.server, "a.example"))
    stage.heard()
    stage.announcer.close(leave=True)
    assert stage.heard() == [GONE]
    stage.use(Announcement(stage.server, "a.example"))
    assert stage.heard() == []


def test_a_vassal_that_goes_is_taken_back(stage: Stage) -> None:
    stage.use(Announcement(stage.server, "a.example"))
    stage.heard()
    stage.announcer.forget("blog")
    assert stage.heard() == [GONE]
    assert stage.pass_s(30) == []


def test_many_are_sent_in_several_turns(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "AT_ONCE", 2)
    stage.use(*(Announcement(stage.server, f"{each}.example") for each in "abcde"))
    assert len(stage.heard()) == 2
    while stage.again:
        stage.again.pop()()
    assert [key for _, key, _ in stage.heard()] == ["c.example", "d.example", "e.example"]


def test_what_cannot_be_sent_is_said_once_a_minute_and_goes_on(stage: Stage, tmp_path: Path) -> None:
    server = str(tmp_path / "later.sock")
    stage.use(Announcement(server, "a.example"))
    stage.pass_s(50)
    (line,) = stage.lines
    assert "nobody listens there" in line and server in line
    (report,) = stage.announcer.report("blog")
    assert (report["address"], report["sent"], report["error"]) == ("", 0, "nobody listens there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as late:
        late.bind(server)
        stage.pass_s(11)
        assert subscription.parse(late.recv(4096)).key == "a.example"
    assert "again" in stage.lines[-1]
    assert stage.announcer.report("blog")[0]["error"] == ""


def test_one_that_reads_nothing_holds_nobody_up(stage: Stage) -> None:
    stage.use(Announcement(stage.server, "a.example"), every_s=1.0)
    for _ in range(2000):
        stage.now += 1
        stage.announcer.look()
    assert stage.announcer.report("blog")[0]["error"] == "it does not read what it is sent"


def test_a_signed_one(stage: Stage, tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 1024)
    (tmp_path / "a.example.pem").write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    fd = os.memfd_create("key")
    try:
        os.write(fd, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        asked = Announcement(stage.server, "a.example", digest="SHA256", pem="/k.pem")
        stage.use(asked, fds=(fd,))
        with pytest.raises(ValueError, match="its key is missing"):
            stage.use(asked)
        os.ftruncate(fd, 10)
        with pytest.raises(ValueError, match=r"/k\.pem: no private key"):
            stage.use(asked, fds=(fd,))
    finally:
        os.close(fd)
    stage.announcer.forget("blog")
    said = [subscription.parse(stage.reader.recv(4096)) for _ in range(2)]
    assert [(each.command, each.unix - 1_700_000_100) for each in said] == [(SUBSCRIBE, 0), (UNSUBSCRIBE, 1)]
    keys = Keys("SHA256", str(tmp_path))
    assert [keys.why_not(each) for each in said] == [None, None]
