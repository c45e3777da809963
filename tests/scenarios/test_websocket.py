"""WebSockets of ASGI apps: real processes, real sockets. docs/specs/websocket.md says which clause each stands for."""

import contextlib
import json
import os
import signal
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.wire.websocket import BAD, CLOSE, MOST, PING, PONG, TEXT, closed, frame, server_frame

from .harness import Connection, Fleet, wait_for
from .harness.fleet import APPS

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ASK = ("Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13")


def vassal(fleet: Fleet, name: str = "a", **keys: object) -> Path:
    return fleet.vassal(name, **{"asgi": "ws_apps:app", "pythonpath": APPS, **keys})


@pytest.fixture
def served(fleet: Fleet) -> Fleet:
    vassal(fleet)
    fleet.start()
    return fleet


def opened(fleet: Fleet, path: str, port: int = 0, name: str = "a", **options: Any) -> ClientConnection:
    sock = socket.create_connection(("127.0.0.1", port or fleet.http_port), 10)
    options.setdefault("compression", None)
    return connect(f"ws://{name}.localhost{path}", sock=sock, open_timeout=20, close_timeout=5, **options)


def asked(path: str, *fields: str, ask: tuple[str, ...] = ASK) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: a.localhost", *ask, *fields, "", ""]).encode()


def raw(fleet: Fleet, path: str = "/echo", behind: bytes = b"") -> Connection:
    """A WebSocket in bytes, its 101 read."""
    client = Connection(fleet.http_port, 20)
    client.send(asked(path) + behind)
    status, fields = client.read_head()
    assert status == 101, (status, fields)
    return client


def read_frame(client: Connection) -> tuple[int, bytes]:
    first, size = client._take(2)
    if size == 126:
        (size,) = struct.unpack(">H", client._take(2))
    elif size == 127:
        (size,) = struct.unpack(">Q", client._take(8))
    return first & 15, client._take(size)


def seen(fleet: Fleet) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(fleet.get("a", "/seen").body)
    return found


def ended(fleet: Fleet, *end: object) -> bool:
    return list(end) in seen(fleet)["ends"]


def traffic(fleet: Fleet) -> dict[str, Any]:
    status = fleet.status_or_none()
    assert status is not None
    found: dict[str, Any] = status["routers"][0]["apps"]["a"]
    return found


# The handshake


def test_the_scope_of_a_websocket(served: Fleet) -> None:
    with opened(
        served, "/scope/%C3%A4?x=1", subprotocols=["chat", "superchat"], additional_headers={"X-One": "two"}
    ) as client:
        scope = json.loads(client.recv())
        assert client.subprotocol == "superchat" and client.response.headers["x-made"] == "here"
    assert scope["type"] == "websocket" and scope["scheme"] == "ws" and scope["path"] == "/scope/ä"
    assert scope["subprotocols"] == ["chat", "superchat"] and scope["query"] == "x=1"
    assert scope["headers"]["x-one"] == "two" and scope["extensions"] == ["websocket.http.response"]
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"} and scope["task"]


@pytest.mark.parametrize(
    ("ask", "status", "told"),
    [
        (tuple(field.replace(": 13", ": 8") for field in ASK), 426, {"sec-websocket-version": "13"}),
        (ASK[:3], 426, {"sec-websocket-version": "13", "upgrade": "websocket"}),
        ((*ASK, "Sec-WebSocket-Version: 8"), 426, {}),
        ((ASK[0], ASK[1], ASK[3]), 400, {}),
        ((*ASK[:2], "Sec-WebSocket-Key: short", ASK[3]), 400, {}),
        ((*ASK, f"Sec-WebSocket-Key: {KEY}"), 400, {}),
        ((*ASK, "Sec-WebSocket-Protocol: two words"), 400, {}),
        ((*ASK, "Sec-WebSocket-Extensions: ;"), 400, {}),
    ],
)
def test_a_handshake_that_cannot_be_taken(
    served: Fleet, ask: tuple[str, ...], status: int, told: dict[str, str]
) -> None:
    with Connection(served.http_port) as client:
        client.send(asked("/echo", ask=ask))
        answer = client.read_response()
        assert answer.status == status and told.items() <= answer.fields.items()
        # The app was not asked, and the connection goes on.
        assert client.request("a.localhost", "/seen").text == json.dumps({"ends": [], "waits": 0, "sent": 0})


@pytest.mark.parametrize(
    "ask",
    [
        ("Upgrade: websocket",),
        ("Connection: Upgrade",),
        ("Upgrade: h2c", "Connection: Upgrade"),
    ],
)
def test_what_is_no_handshake_is_plain_http(served: Fleet, ask: tuple[str, ...]) -> None:
    with Connection(served.http_port) as client:
        client.send(asked("/plain", ask=ask))
        assert client.read_response().text.startswith("HTTP /plain")


@pytest.mark.parametrize("on_loop", ["false", "true"])
def test_a_wsgi_app_is_asked_in_plain_http(fleet: Fleet, on_loop: str) -> None:
    fleet.vassal("a", wsgi_file=APPS / "echo.py", wsgi_on_loop=on_loop)
    fleet.start()
    with Connection(fleet.http_port) as client:
        client.send(asked("/x"))
        answer = client.read_response()
        assert answer.status == 200 and json.loads(answer.body)["PATH_INFO"] == "/x"
        assert client.request("a.localhost", "/y").status == 200


def test_an_app_that_does_not_want_it(served: Fleet) -> None:
    with pytest.raises(InvalidStatus) as caught, opened(served, "/rejects"):
        pass
    assert caught.value.response.status_code == 403
    with pytest.raises(InvalidStatus) as caught, opened(served, "/denies"):
        pass
    response = caught.value.response
    assert response.status_code == 401 and response.headers["www-authenticate"] == "Bearer"
    with Connection(served.http_port) as client:
        client.send(asked("/denies"))
        assert client.read_response().body == b'{"who":"are you"}'
        # What comes behind it is HTTP.
        assert client.request("a.localhost", "/x").status == 200


def test_an_app_that_fails_before_it_has_answered(served: Fleet) -> None:
    for path, told in (
        ("/raises_first", "ValueError: before it was accepted"),
        ("/returns_first", "WebSocket /returns_first: the app returned before websocket.accept"),
    ):
        with pytest.raises(InvalidStatus) as caught, opened(served, path):
            pass
        assert caught.value.response.status_code == 500
        wait_for(lambda told=told: told in served.log(), 5, served.log)


def test_what_an_app_does_wrong_is_told_by_an_exception(served: Fleet) -> None:
    with opened(served, "/late") as client:
        told = json.loads(client.recv())
        with pytest.raises(ConnectionClosedOK):
            client.recv()
    for expected, found in zip(
        (
            "AsgiError: websocket.send came before websocket.accept",
            "AsgiError: send() of 'http.response.start', which is no message of a websocket scope",
            "ValueError: websocket.accept has the subprotocol 'never offered'",
            "ValueError: websocket.accept has the header sec-websocket-protocol",
            "AsgiError: websocket.accept came after websocket.accept",
            "TypeError: websocket.send has neither text nor bytes",
            "TypeError: websocket.send has text of bytes",
            "TypeError: the bytes of websocket.send must be bytes, not str",
            "UnicodeEncodeError",
            "ValueError: websocket.close has the code 1005",
            "AsgiError: send() wants a dict",
        ),
        told,
        strict=True,
    ):
        assert found.startswith(expected)
    wait_for(lambda: len(seen(served)["ends"]) == 2, 5)
    after = seen(served)["ends"][0][1]
    assert [each.split(":")[1] for each in after] == [
        " websocket.send came after websocket.close",
        " websocket.close came after websocket.close",
    ]


# Messages


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_messages_of_all_sizes_both_ways(served: Fleet, compression: str | None) -> None:
    with opened(served, "/echo", compression=compression, max_size=None) as client:
        for size in (0, 1, 125, 126, 511, 512, 65535, 65536, 70000, 3_000_000):
            text = "ä" * (size // 2)
            client.send(text)
            assert client.recv() == text
            data = os.urandom(size)
            client.send(data)
            assert client.recv() == data
        client.send(["frag", "ments ", "of ", "one"])
        assert client.recv() == "fragments of one"
        pong = client.ping(b"there?")
        assert pong.wait(5)
        for number in range(500):
            client.send(str(number))
        assert [client.recv() for _ in range(500)] == [str(number) for number in range(500)]


def test_frames_right_behind_the_request_and_in_drips(served: Fleet) -> None:
    client = raw(served, behind=frame(TEXT, b"early") + frame(TEXT, b"half")[:7])
    assert read_frame(client) == (TEXT, b"early")
    for byte in frame(TEXT, b"half")[7:] + frame(TEXT, b"by drips"):
        client.send(bytes((byte,)))
        time.sleep(0.005)
    assert read_frame(client) == (TEXT, b"half")
    assert read_frame(client) == (TEXT, b"by drips")
    client.close()


def test_sends_of_several_tasks_and_one_that_is_cancelled_keep_frames_whole(served: Fleet) -> None:
    with opened(served, "/many", max_size=None) as client:
        found = [client.recv() for _ in range(8)]
        assert {(len(each), each[0], each.count(each[0])) for each in found} == {
            (300_000, number, 300_000) for number in range(8)
        }
    client = raw(served, "/cancels")
    wait_for(lambda: ended(served, "cancels", "timeout"), 10)
    opcode, payload = read_frame(client)
    assert (opcode, len(payload)) == (2, 8_000_000)
    assert read_frame(client) == (TEXT, b"after") and read_frame(client)[0] == CLOSE
    client.close()


# Ends


def test_close_codes_and_reasons_both_ways(served: Fleet) -> None:
    with opened(served, "/echo") as client:
        client.close(4321, "had enough")
    wait_for(lambda: ended(served, "echo", 4321, "had enough"), 5, lambda: seen(served))
    client = raw(served)
    client.send(frame(CLOSE))
    # The server echoes it, and is the one to close.
    assert client.read_to_end() == server_frame(CLOSE)
    client.close()
    wait_for(lambda: ended(served, "echo", 1005, ""), 5)
    with opened(served, "/closes") as client:
        assert client.recv() == "last words"
        with pytest.raises(ConnectionClosed) as caught:
            client.recv()
        assert caught.value.rcvd is not None and (caught.value.rcvd.code, caught.value.rcvd.reason) == (
            4001,
            "enough",
        )
    wait_for(lambda: ended(served, "closes", 4001), 5)
    with opened(served, "/returns") as client, pytest.raises(ConnectionClosedOK):
        client.recv()
    with opened(served, "/raises") as client, pytest.raises(ConnectionClosedError) as failed:
        client.recv()
    assert failed.value.rcvd is not None and failed.value.rcvd.code == 1011
    wait_for(lambda: "ValueError: on purpose" in served.log(), 5, served.log)


def test_a_client_that_goes_without_a_word(served: Fleet) -> None:
    raw(served).close()
    wait_for(lambda: ended(served, "echo", 1006, ""), 5)
    client = raw(served)
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    wait_for(lambda: seen(served)["ends"].count(["echo", 1006, ""]) == 2, 5)
    # It has a slot no more.
    wait_for(lambda: traffic(served)["websockets"] == 0, 5, lambda: traffic(served))


def test_each_malformed_frame_closes_with_its_code_and_the_app_is_told_once(fleet: Fleet) -> None:
    vassal(fleet, ws_max_size=MOST)
    fleet.start()
    for row in BAD:
        client = Connection(fleet.http_port, 20)
        client.send(
            asked("/echo", *(["Sec-WebSocket-Extensions: permessage-deflate"] if row.deflate else []))
        )
        assert client.read_head()[0] == 101
        client.send(row.sent)
        sent = client.read_to_end()
        client.close()
        # A whole message may have been echoed before.
        assert sent[sent.index(b"\x88") + 2 :][:2] == struct.pack(">H", row.code), row
    wait_for(lambda: len(seen(fleet)["ends"]) == 2 * len(BAD), 10)
    ends = seen(fleet)["ends"]
    assert [end[1] for end in ends[::2]] == [row.code for row in BAD]
    assert all(end == ["echo", "returned"] for end in ends[1::2])
    wait_for(lambda: traffic(fleet)["websockets"] == 0, 5)


def test_a_client_that_does_not_answer_a_close_is_not_waited_for(served: Fleet) -> None:
    client = raw(served, "/returns")
    assert read_frame(client) == (CLOSE, closed(1000))
    client.send(frame(TEXT, b"never mind"))
    assert client.read_some() == b""
    client.close()


# Deadlines


def test_a_silent_client_is_pinged_and_one_that_stays_silent_is_closed(fleet: Fleet) -> None:
    vassal(fleet, ws_ping_interval="300ms", ws_ping_timeout="1500ms")
    fleet.start()
    client = raw(fleet)
    for _ in range(3):
        assert read_frame(client) == (PING, b"")
        client.send(frame(PONG))
    assert read_frame(client) == (PING, b"")
    opcode, payload = read_frame(client)
    assert opcode == CLOSE and payload[:2] == struct.pack(">H", 1011)
    assert client.read_some() == b""
    client.close()
    wait_for(lambda: ended(fleet, "echo", 1011, "no pong"), 5)
    with opened(fleet, "/echo") as answering:
        time.sleep(2.5)
        answering.send("still here")
        assert answering.recv() == "still here"


def test_an_idle_one_is_closed(fleet: Fleet) -> None:
    vassal(fleet, ws_idle_timeout="2s", ws_ping_interval="100ms")
    fleet.start()
    with opened(fleet, "/echo") as client:
        for _ in range(4):
            client.send("x")
            assert client.recv() == "x"
            time.sleep(0.6)
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(20)
    assert caught.value.rcvd is not None and caught.value.rcvd.code == 1001
    wait_for(lambda: ended(fleet, "echo", 1001, "idle"), 5)


def test_harakiri_and_request_timeout_are_not_for_what_is_open(fleet: Fleet) -> None:
    vassal(fleet, harakiri="1s", request_timeout="1s", concurrency="2/2")
    fleet.start()
    with opened(fleet, "/echo") as client, opened(fleet, "/slow?0.1") as other:
        time.sleep(3.5)
        for each in (client, other):
            each.send("alive")
            assert each.recv() == "alive"
    with pytest.raises(InvalidStatus) as caught, opened(fleet, "/slow?30"):
        pass
    # A handshake is answered in time, as any request.
    assert caught.value.response.status_code == 504
    assert "harakiri" not in fleet.log()


def test_requests_do_not_wait_behind_what_may_be_open_for_hours(fleet: Fleet) -> None:
    vassal(fleet, concurrency="1/1", processes=2)
    fleet.start()
    with opened(fleet, "/echo") as client:
        for _ in range(50):
            assert fleet.get("a", "/x").status == 200
        client.send("x")
        assert client.recv() == "x"


# Back-pressure


def test_a_client_that_does_not_read_stops_its_app(served: Fleet) -> None:
    client = raw(served, "/flood?2000")
    wait_for(lambda: seen(served)["sent"] > 0, 5)
    before = -1
    while before != (before := seen(served)["sent"]):
        time.sleep(0.3)
    assert before < 32 * 1024 * 1024
    total = 0
    while True:
        opcode, payload = read_frame(client)
        if opcode == CLOSE:
            break
        total += len(payload)
    assert total == 2000 * 64 * 1024
    client.close()


def test_an_app_that_does_not_read_stops_its_client(served: Fleet) -> None:
    with opened(served, "/deaf", ping_interval=None) as client:
        wait_for(lambda: seen(served)["waits"] == 1, 5)
        piece, sent = bytes(64 * 1024), 0
        client.socket.settimeout(20)
        stopped = threading.Event()

        def push() -> None:
            nonlocal sent
            for _ in range(500):
                client.send(piece)
                sent += len(piece)
            client.send("how much")
            stopped.set()

        pusher = threading.Thread(target=push, daemon=True)
        pusher.start()
        before = -1
        while before != (before := sent):
            time.sleep(0.3)
        assert not stopped.is_set() and before < 16 * 1024 * 1024
        with opened(served, "/hear"):
            pass
        assert client.recv(20) == str(500 * 64 * 1024)
        pusher.join(5)


# The worker


def test_a_reload_tells_them_all_to_go_and_new_ones_come_to_the_next(served: Fleet) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(opened(served, "/echo")) for _ in range(20)]
        vassal(served, env="X=1")
        for client in clients:
            with pytest.raises(ConnectionClosed) as caught:
                client.recv(20)
            assert caught.value.rcvd is not None and caught.value.rcvd.code == 1001
    served.wait_ready()
    with opened(served, "/echo") as client:
        client.send("next")
        assert client.recv() == "next"


def test_a_stop_of_the_emperor_tells_them_to_go_and_does_not_wait_for_those_that_do_not(fleet: Fleet) -> None:
    vassal(fleet)
    fleet.start()
    with opened(fleet, "/echo") as client:
        silent = raw(fleet)
        begun = time.monotonic()
        assert fleet.emperor is not None
        fleet.emperor.terminate()
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(20)
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 1001
        assert read_frame(silent) == (CLOSE, closed(1001)) and silent.read_some() == b""
        silent.close()
    assert fleet.emperor.wait(20) == 0
    # Well before stop-timeout is over, which the log would say.
    assert time.monotonic() - begun < 20 and "cancelled" not in fleet.log()


def test_one_that_will_not_go_is_ended_by_the_deadline(fleet: Fleet) -> None:
    vassal(fleet, stop_timeout="2s")
    fleet.start()
    client = raw(fleet, "/stubborn?60")
    fleet.get("a", "/seen")
    vassal(fleet, stop_timeout="2s", env="X=1")
    assert read_frame(client) == (CLOSE, closed(1001))
    assert client.read_some() == b""
    client.close()
    wait_for(lambda: "cancelled, the worker leaves" in fleet.log(), 20, fleet.log)


def test_a_worker_that_dies_ends_them_at_once_with_a_reset(served: Fleet) -> None:
    with opened(served, "/scope") as first:
        pid = json.loads(first.recv())["pid"]
        clients = [raw(served) for _ in range(5)]
        os.kill(pid, signal.SIGKILL)
        for client in clients:
            with pytest.raises(ConnectionResetError):
                client.read_some()
            client.close()
        with pytest.raises(ConnectionClosedError):
            first.recv()
    wait_for(lambda: served.get("a", "/x").status == 200, 20)
    # An open WebSocket is not what kills a worker.
    assert "poison" not in served.log()


def test_a_router_that_dies_ends_them_and_the_worker_goes_on(served: Fleet) -> None:
    with opened(served, "/scope") as first:
        pid = json.loads(first.recv())["pid"]
        router = served.status_or_none()
        assert router is not None
        os.kill(router["routers"][0]["pid"], signal.SIGKILL)
        with pytest.raises(ConnectionClosedError):
            first.recv()

    def again() -> bool:
        try:
            with opened(served, "/scope") as client:
                return bool(json.loads(client.recv())["pid"] == pid)
        except OSError:
            return False

    wait_for(again, 20, served.log)
    wait_for(lambda: ended(served, "scope", 1006, ""), 5)


def test_an_app_that_holds_the_loop_is_reported(served: Fleet) -> None:
    with opened(served, "/holds?1.5") as client:
        time.sleep(3)
        client.send("x")
        assert client.recv(10) == "held"
    wait_for(
        lambda: "event loop has been held up" in served.log() and "time.sleep" in served.log(), 5, served.log
    )


def test_the_access_log_and_the_statistics_tell_of_them(fleet: Fleet) -> None:
    log = fleet.root / "access.log"
    vassal(fleet, access_log=log, log_format="%(method) %(uri) %(status) %(rsize)")
    fleet.start()
    with opened(fleet, "/echo") as client:
        client.send("12345")
        client.recv()
        found = traffic(fleet)
        assert (found["websockets"], found["websockets_opened"]) == (1, 1)
        assert "/echo" not in log.read_text()
    wait_for(lambda: "GET /echo 101 11\n" in log.read_text(), 5, log.read_text)
    wait_for(lambda: traffic(fleet)["websockets"] == 0, 5)
