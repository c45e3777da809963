"""Bad input on the control socket: an error that says what is wrong, and a router that serves on."""

import json
import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from emperor.control.channel import ControlError
from tests.router.client import request
from tests.router.stage import Stage, Vassal

ENTRY = {"name": "new", "domains": ["new.localhost"]}


def descriptors(stage: Stage) -> int:
    return len(os.listdir(f"/proc/{stage.pid}/fd"))


@pytest.mark.parametrize(
    ("message", "says"),
    [
        pytest.param({"op": "fly"}, "unknown", id="an unknown op"),
        pytest.param({}, "unknown", id="no op"),
        pytest.param({"op": 7}, "unknown", id="an op that is a number"),
        pytest.param({"op": "vassal"}, "entry", id="vassal without an entry"),
        pytest.param({"op": "vassal", "entry": []}, "object", id="an entry that is a list"),
        pytest.param({"op": "vassal", "entry": {}}, "name", id="an entry without a name"),
        pytest.param(
            {"op": "vassal", "entry": {**ENTRY, "queue": "x"}}, "queue", id="a bad value in an entry"
        ),
        pytest.param({"op": "vassal", "entry": ENTRY}, "descriptor", id="vassal without its backplane"),
        pytest.param(
            {"op": "listen", "kind": "http", "address": "x"}, "descriptor", id="listen without a socket"
        ),
        pytest.param({"op": "listen"}, "kind", id="listen without anything"),
        pytest.param({"op": "unlisten"}, "kind", id="unlisten without anything"),
        pytest.param({"op": "generation", "name": "neighbour"}, "descriptor", id="generation without a page"),
        pytest.param({"op": "activate", "name": "neighbour"}, "generation", id="activate without a number"),
        pytest.param(
            {"op": "activate", "name": "neighbour", "generation": "x"}, "x", id="a number of letters"
        ),
        pytest.param({"op": "activate", "name": "neighbour", "generation": None}, "int", id="no number"),
        pytest.param({"op": "activate", "name": "nobody", "generation": 1}, "nobody", id="an unknown vassal"),
        pytest.param({"op": "retire"}, "name", id="retire without a name"),
        pytest.param({"op": "remove"}, "name", id="remove without a name"),
        pytest.param({"op": "drain", "timeout_s": "soon"}, "soon", id="a time of letters"),
    ],
)
def test_a_message_that_is_answered_by_an_error(stage: Stage, message: dict[str, Any], says: str) -> None:
    with pytest.raises(ControlError, match=says):
        stage.channel.request(message)
    assert stage.stats()["state"] == "running"


@pytest.mark.parametrize("op", ["vassal", "generation", "activate", "listen", "fly"])
def test_without_an_id_it_is_a_line_in_the_log_and_what_follows_counts(stage: Stage, op: str) -> None:
    """The messages behind it came in the same read: none of them is lost."""
    stage.channel.send({"op": op})
    assert stage.stats()["state"] == "running"
    stage.wait_log(rf"^router: {op}: ")


def test_descriptors_of_what_is_refused_are_closed(stage: Stage) -> None:
    read, write = os.pipe()
    before = descriptors(stage)
    try:
        for message in (
            {"op": "vassal", "entry": {}},
            {"op": "vassal", "entry": ENTRY},
            {"op": "listen", "kind": "gopher", "address": "x"},
            {"op": "listen", "kind": "http", "address": "x"},
            {"op": "generation", "name": "nobody"},
            {"op": "activate", "name": "neighbour", "generation": "x"},
            {"op": "fly"},
        ):
            with pytest.raises(ControlError):
                stage.channel.request(message, [read])
            with pytest.raises(ControlError):
                stage.channel.request(message, [read, write])
        stage.channel.request({"op": "hello"}, [read, write])
    finally:
        os.close(read)
        os.close(write)
    assert descriptors(stage) == before


def test_a_refused_listener_leaves_the_old_one(stage: Stage) -> None:
    read, write = os.pipe()
    try:
        with pytest.raises(ControlError):
            stage.channel.request({"op": "listen", "kind": "http", "address": "http"}, [read])
    finally:
        os.close(read)
        os.close(write)
    assert stage.http(request("nobody.test")).response().status == 404


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="HTTP"),
        pytest.param(struct.pack("!I", 5) + b"{nope", id="no JSON"),
        pytest.param(struct.pack("!I", 2) + b"[]", id="no object"),
        pytest.param(struct.pack("!I", 4 << 20 | 1) + b" ", id="longer than any may be"),
        pytest.param(struct.pack("!I", 100) + b"{", id="cut short"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_is_no_message_costs_the_connection(stage: Stage, blog: Vassal, raw: bytes) -> None:
    stage.channel.close()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(stage.directory / "control"))
        sock.sendall(raw)
        sock.shutdown(socket.SHUT_WR)
        said = b"".join(iter(lambda: sock.recv(4096), b""))
    stage.connect()
    # Nothing is answered; a line of the log may come, of what the test before this one asked for.
    assert b'"re"' not in said
    assert stage.http(request("nobody.test")).response().status == 404


def test_unknown_keys_are_ignored(stage: Stage) -> None:
    assert stage.tell("hello", pid=1, version="9.9", future={"a": 1})["complete"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_another_user_is_turned_away(stage: Stage) -> None:
    path = str(stage.directory / "control")
    os.chmod(path, 0o666)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.setgid(65534)
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(5)
                sock.connect(path)
                body = json.dumps({"op": "hello", "id": 1}).encode()
                try:
                    sock.sendall(struct.pack("!I", len(body)) + body)
                    code = 0 if sock.recv(10) == b"" else 2
                except ConnectionError:
                    code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert stage.stats()["state"] == "running"  # and our own connection was not taken over


def test_sockets_whose_paths_have_vanished_are_replaced_and_who_is_connected_stays(
    stage: Stage, blog: Vassal
) -> None:
    generation = blog.active(seats=2)
    first = generation.worker(0)
    for path, op, keys in (
        (stage.directory / "control", "control", {}),
        (Path(blog.endpoint), "backplane", {"name": "blog"}),
    ):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
            if op == "backplane":
                sock.listen()
                sock.setblocking(False)
            stage.tell(op, [sock.fileno()], **keys)
    second = generation.worker(1)
    clients = [stage.http(request("blog.localhost", "/")) for _ in range(2)]
    for worker in (first, second):
        worker.respond(worker.take())
    assert [client.response().status for client in clients] == [200, 200]
    stage.connect()
    assert stage.hello()["pid"] == stage.pid
