"""WebSockets as an app sees them, on an exchange of memory. Coroutines are driven by hand: no loop, and a clock of ours."""

import io
from collections.abc import Callable
from typing import Any

import pytest

from emperor.protocol import packet
from tests.wire.websocket import BAD, CLOSE, MOST, PING, PONG, TEXT, Bad, closed, frame, packed, server_frame
from vassals.adapters import websocket
from vassals.adapters.asgi import Asgi, AsgiError, ClientGone
from vassals.adapters.websocket import Clock, Rules, Sockets

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ASK = {
    "REQUEST_METHOD": "GET",
    "REQUEST_URI": "/chat?a=b",
    "PATH_INFO": "/chat",
    "QUERY_STRING": "a=b",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "HTTP_SEC_WEBSOCKET_KEY": KEY,
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
}


class Pause:
    def __await__(self) -> Any:
        yield


class Tunnel:
    """An exchange of memory. ``credit`` bytes may be sent until the test gives more."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.upgrade = True
        self.gone = ""
        self.credit = 1 << 30
        self.events: list[str] = []
        self.head = b""
        self.sent = b""
        self.taken = 0
        self.listener: Any = None

    def finish_now(self, head: bytes, body: bytes) -> bool:
        self.events.append("finish")
        self.head, self.sent = head, body
        return True

    def start_now(self, head: bytes, body: bytes) -> int:
        self.events.append("start")
        self.head, self.sent = head, body
        return len(body)

    def send_now(self, body: bytes, offset: int) -> int:
        assert "end" not in self.events and "abort" not in self.events, "sent after the end"
        if self.gone:
            return 0
        piece = body[offset : offset + self.credit]
        self.credit -= len(piece)
        self.sent += piece
        return len(piece)

    def switch_now(self, head: bytes, listener: Any) -> None:
        self.events.append("switch")
        self.head, self.listener = head, listener

    def took(self, size: int) -> None:
        self.taken += size

    def read_from(self, offset: int) -> None:
        pass

    def end(self) -> None:
        self.events.append("end")
        self.gone = "the request has ended"

    def abort(self, reason: str) -> None:
        self.events.append(f"abort {reason}")

    def wake(self) -> None:
        pass

    async def changed(self) -> None:
        await Pause()


class Time:
    """The loop's, and its timers."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = []

    def call_later(self, delay: float, call: Callable[..., None], *arguments: Any) -> "Timer":
        row = (self.now + delay, call, arguments)
        self.timers.append(row)
        return Timer(self, row)

    def pass_by(self, seconds: float) -> None:
        until = self.now + seconds
        while True:
            due = min((row for row in self.timers if row[0] <= until), key=lambda row: row[0], default=None)
            if due is None:
                break
            self.timers.remove(due)
            self.now = max(self.now, due[0])
            due[1](*due[2])
        self.now = until


class Timer:
    def __init__(self, time: Time, row: Any) -> None:
        self.time, self.row = time, row

    def cancel(self) -> None:
        if self.row in self.time.timers:
            self.time.timers.remove(self.row)


class Client:
    """An app and its client. ``does`` is the app: each `go` runs it until it waits."""

    def __init__(self, app: Any, rules: Rules | None = None, **variables: str | None) -> None:
        pairs = {key: value for key, value in (ASK | variables).items() if value is not None}
        self.tunnel = Tunnel(
            packet.encode((k.encode("latin-1"), v.encode("latin-1")) for k, v in pairs.items())
        )
        self.time = Time()
        self.log = io.StringIO()
        self.sockets = Sockets(
            rules or Rules(), Clock(lambda: self.time.now, self.time.call_later, lambda: None), self.log.write
        )
        self.adapter = Asgi(app, self.log, sockets=self.sockets)
        self.call: Any = self.adapter.open(self.tunnel)  # type: ignore[arg-type]
        self.running = None if self.call is None else self.adapter.run(self.call)

    def go(self) -> bool:
        """True: the app has returned."""
        assert self.running is not None
        try:
            self.running.send(None)
        except StopIteration:
            return True
        return False

    def says(self, *pieces: bytes) -> "Client":
        for piece in pieces:
            self.tunnel.listener.arrived(piece, False)
        return self


class Notes:
    """An app that accepts, keeps what it receives, and echoes nothing."""

    def __init__(self, **accept: Any) -> None:
        self.accept = accept
        self.got: list[Any] = []
        self.scope: dict[str, Any] = {}
        self.send: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope, self.send = scope, send
        assert await receive() == {"type": "websocket.connect"}
        await send({"type": "websocket.accept", **self.accept})
        while True:
            message = await receive()
            self.got.append(message)
            if message["type"] == "websocket.disconnect":
                # Whoever asks again gets it again.
                assert await receive() == message
                return


def opened(rules: Rules | None = None, **variables: str | None) -> tuple[Client, Notes]:
    app = Notes()
    client = Client(app, rules, **variables)
    assert not client.go()
    return client, app


def gone(code: int, reason: str = "") -> dict[str, object]:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


def run(coroutine: Any) -> None:
    """To its end, or until it waits."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise BlockingIOError


# The handshake


def test_the_scope_and_the_answer() -> None:
    app = Notes(subprotocol="b", headers=[(b"x-made", b"here")])
    client = Client(app, HTTP_SEC_WEBSOCKET_PROTOCOL="a, b", REQUEST_SCHEME="https")
    assert not client.go()
    scope = app.scope
    assert (scope["type"], scope["scheme"], scope["path"]) == ("websocket", "wss", "/chat")
    assert scope["subprotocols"] == ["a", "b"] and scope["extensions"] == {"websocket.http.response": {}}
    assert scope["state"] == {} and "method" not in scope
    lines = client.tunnel.head.split(b"\r\n")
    assert lines[0] == b"101 Switching Protocols"
    assert sorted(lines[1:]) == [
        b"",
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        b"Sec-WebSocket-Protocol: b",
        b"x-made: here",
    ]


@pytest.mark.parametrize(
    ("variables", "status"),
    [
        ({"HTTP_SEC_WEBSOCKET_VERSION": "8"}, b"426"),
        ({"HTTP_SEC_WEBSOCKET_VERSION": None}, b"426"),
        ({"HTTP_SEC_WEBSOCKET_KEY": None}, b"400"),
        ({"HTTP_SEC_WEBSOCKET_KEY": "x" * 24}, b"400"),
        ({"HTTP_SEC_WEBSOCKET_PROTOCOL": "a b"}, b"400"),
        ({"HTTP_SEC_WEBSOCKET_EXTENSIONS": "a b"}, b"400"),
    ],
)
def test_what_cannot_be_taken_is_answered_without_the_app(
    variables: dict[str, str | None], status: bytes
) -> None:
    client = Client(None, **variables)
    assert client.call is None and client.tunnel.events == ["finish"]
    assert client.tunnel.head.startswith(status)


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("permessage-deflate", b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
        ("foo", None),
    ],
)
def test_compression_is_agreed_on(offer: str, answer: bytes | None) -> None:
    client, _ = opened(HTTP_SEC_WEBSOCKET_EXTENSIONS=offer)
    line = b"Sec-WebSocket-Extensions: %b\r\n" % answer if answer else b""
    assert line in client.tunnel.head and (b"Extensions" in client.tunnel.head) == bool(answer)
    client, _ = opened(Rules(deflate=False), HTTP_SEC_WEBSOCKET_EXTENSIONS=offer)
    assert b"Extensions" not in client.tunnel.head


# Bad input


@pytest.mark.parametrize("row", BAD, ids=lambda row: f"{row.clause} {row.what}")
def test_a_malformed_frame_closes_with_its_code_and_the_app_is_told_once(row: Bad) -> None:
    variables = {"HTTP_SEC_WEBSOCKET_EXTENSIONS": "permessage-deflate"} if row.deflate else {}
    client, app = opened(Rules(most=MOST), **variables)
    client.says(row.sent, frame(TEXT, b"more"))
    assert client.go()
    assert [got["type"] for got in app.got].count("websocket.disconnect") == 1 and app.got[-1][
        "code"
    ] == row.code
    assert client.tunnel.sent[:1] == b"\x88" and client.tunnel.sent[2:4] == closed(row.code)
    assert client.tunnel.sent[4:].decode() == app.got[-1]["reason"][:123]
    # Nothing is left of it.
    assert (
        client.tunnel.events == ["switch", "end"] and not client.sockets._open and not client.log.getvalue()
    )


# Ends


def test_a_client_that_closes_gets_its_code_back_and_the_app_is_told() -> None:
    for payload, code, reason in (
        (closed(1000, "over"), 1000, "over"),
        (closed(4999), 4999, ""),
        (b"", 1005, ""),
    ):
        client, app = opened()
        client.says(frame(CLOSE, payload), frame(TEXT, b"more"))
        assert client.go() and app.got == [gone(code, reason)]
        assert client.tunnel.sent == server_frame(CLOSE, payload)
        assert client.tunnel.events == ["switch", "end"]


def test_a_client_that_goes() -> None:
    client, app = opened()
    client.tunnel.gone = "the client has gone"
    client.tunnel.listener.stirred()
    assert client.go() and app.got == [gone(1006)]
    assert client.tunnel.events == ["switch", "abort the client has gone"]
    client, app = opened()
    client.tunnel.listener.arrived(frame(TEXT, b"last"), True)
    assert client.go() and app.got == [{"type": "websocket.receive", "text": "last"}, gone(1006)]
    assert client.tunnel.events == ["switch", "end"]


def test_an_app_that_closes_waits_for_the_clients_word_but_not_for_long() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4000, "reason": "enough"})
        assert await receive() == {"type": "websocket.connect"}
        assert await receive() == gone(4000, "enough")

    for answers in (True, False):
        client = Client(app)
        assert client.go() and client.tunnel.sent == server_frame(CLOSE, closed(4000, "enough"))
        assert client.tunnel.events == ["switch"]
        client.says(frame(TEXT, b"on its way"))
        if answers:
            client.says(frame(CLOSE, closed(4000)))
            assert client.tunnel.events == ["switch", "end"]
        client.time.pass_by(websocket.CLOSE_S + 2)
        assert client.tunnel.events == ["switch", "end"]
        assert client.tunnel.sent == server_frame(CLOSE, closed(4000, "enough")) and not client.log.getvalue()


def test_an_app_that_returns_or_raises() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        if scope["query_string"]:
            raise ValueError("on purpose")

    client = Client(app, QUERY_STRING="")
    assert client.go() and client.tunnel.sent == server_frame(CLOSE, closed(1000))
    client = Client(app)
    assert client.go() and client.tunnel.sent == server_frame(CLOSE, closed(1011))
    assert "ValueError: on purpose" in client.log.getvalue()


def test_before_it_is_accepted_an_apps_mistake_is_500_and_its_close_403() -> None:
    async def returns(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    async def raises(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("on purpose")

    async def closes(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.close"})
        assert (await receive())["type"] == "websocket.connect"
        assert await receive() == gone(1006)

    for app, status in ((returns, b"500"), (raises, b"500"), (closes, b"403")):
        client = Client(app)
        assert client.go() and client.tunnel.head.startswith(status) and client.tunnel.events == ["finish"]
        assert bool(client.log.getvalue()) == (status == b"500")


def test_a_denial_response() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"a", b"b")]})
        with pytest.raises(AsgiError, match=r"websocket\.accept came in the middle of a denial response"):
            await send({"type": "websocket.accept"})
        await send({"type": "websocket.http.response.body", "body": b"no"})
        with pytest.raises(AsgiError, match="after the denial response"):
            await send({"type": "websocket.http.response.body", "body": b"no"})

    client = Client(app)
    assert client.go()
    assert client.tunnel.head == b"401 Unauthorized\r\na: b\r\ncontent-length: 2\r\n"
    assert (client.tunnel.sent, client.tunnel.events) == (b"no", ["finish"])

    async def leaves_it(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.http.response.start", "status": 401})

    client = Client(leaves_it)
    assert client.go() and client.tunnel.head.startswith(b"500")
    assert "in the middle of a denial response" in client.log.getvalue()


def test_after_the_client_has_gone_send_is_an_oserror_and_close_is_nothing() -> None:
    client, app = opened()
    client.says(frame(CLOSE))
    with pytest.raises(ClientGone, match=r"closed \(1005\)"):
        run(app.send({"type": "websocket.send", "text": "late"}))
    run(app.send({"type": "websocket.close"}))
    assert client.go() and not client.log.getvalue()


# What goes out is whole frames


def test_a_pong_waits_for_the_frame_that_is_under_way() -> None:
    client, app = opened()
    client.tunnel.credit = 5
    sending = app.send({"type": "websocket.send", "bytes": b"x" * 10})
    sending.send(None)
    client.says(frame(PING, b"1"), frame(PING, b"2"))
    assert client.tunnel.sent == server_frame(2, b"x" * 10)[:5]
    # Cancelled, it is sent to its end all the same.
    sending.close()
    client.tunnel.credit = 1000
    client.tunnel.listener.stirred()
    # The last ping alone is answered (RFC 6455, 5.5.3).
    assert client.tunnel.sent == server_frame(2, b"x" * 10) + server_frame(PONG, b"2")


def test_frames_of_two_tasks_do_not_mix() -> None:
    client, app = opened()
    client.tunnel.credit = 5
    first = app.send({"type": "websocket.send", "bytes": b"x" * 10})
    second = app.send({"type": "websocket.send", "bytes": b"y" * 10})
    first.send(None)
    second.send(None)
    client.tunnel.credit = 1000
    client.tunnel.listener.stirred()
    run(first)
    run(second)
    assert client.tunnel.sent == server_frame(2, b"x" * 10) + server_frame(2, b"y" * 10)


def test_large_messages_are_compressed_where_it_helps() -> None:
    client, app = opened(HTTP_SEC_WEBSOCKET_EXTENSIONS="permessage-deflate")
    run(app.send({"type": "websocket.send", "text": "x" * 511}))
    assert client.tunnel.sent == server_frame(TEXT, b"x" * 511)
    client.tunnel.sent = b""
    run(app.send({"type": "websocket.send", "text": "x" * 512}))
    assert client.tunnel.sent[0] == 0xC1 and len(client.tunnel.sent) < 50
    client.says(frame(TEXT, packed(b"Hello"), rsv=4))
    assert not client.go() and app.got == [{"type": "websocket.receive", "text": "Hello"}]


# Back-pressure


def test_an_app_that_does_not_read_has_its_client_wait() -> None:
    client, app = opened()
    piece = frame(2, bytes(10_000))
    client.says(*[piece] * 6)
    assert client.tunnel.taken == 6 * len(piece)
    # What is beyond the bound has come, is not read, and gives no credit.
    client.says(*[piece] * 6)
    assert client.tunnel.taken < 8 * len(piece)
    client.says(frame(CLOSE))
    assert not client.tunnel.sent
    assert client.go()
    assert len(app.got) == 13 and app.got[-1] == gone(1005) and client.tunnel.sent == server_frame(CLOSE)
    assert client.tunnel.taken == 12 * len(piece) or client.tunnel.events[-1] == "end"


# Deadlines


def test_pings_go_to_the_silent_and_end_those_who_stay_so() -> None:
    client, app = opened(Rules(ping_interval_s=20, ping_timeout_s=10))
    for _ in range(5):
        client.time.pass_by(15)
        client.says(frame(TEXT, b"x"))
        client.go()
    # Silent for as long as the rule says, and a step of the rounds: a second.
    client.time.pass_by(19)
    assert not client.tunnel.sent
    client.time.pass_by(2)
    assert client.tunnel.sent == server_frame(PING)
    client.says(frame(PONG))
    client.time.pass_by(19)
    assert client.tunnel.sent == server_frame(PING)
    client.time.pass_by(3)
    assert client.tunnel.sent == server_frame(PING) * 2
    client.time.pass_by(7)
    assert client.tunnel.events == ["switch"]
    client.time.pass_by(5)
    assert client.tunnel.sent == server_frame(PING) * 2 + server_frame(CLOSE, closed(1011, "no pong"))
    assert client.go() and app.got[-1] == gone(1011, "no pong") and client.tunnel.events == ["switch", "end"]
    client.time.pass_by(websocket.CLOSE_S + 2)
    assert not client.time.timers and not client.sockets._rounds


def test_a_client_that_we_do_not_read_is_not_blamed_for_its_silence() -> None:
    client, _ = opened(Rules(ping_interval_s=1, ping_timeout_s=1))
    client.says(*[frame(2, bytes(40_000))] * 3)
    client.time.pass_by(60)
    assert client.tunnel.events == ["switch"]


def test_pings_do_not_keep_an_idle_one_open() -> None:
    client, app = opened(Rules(ping_interval_s=2, idle_s=10))
    for at in range(30):
        client.time.pass_by(1)
        if at == 4:
            run(app.send({"type": "websocket.send", "text": "x"}))
        if at < 14:
            assert client.tunnel.events == ["switch"] and not client.call.code
            client.says(frame(PONG))
    assert client.tunnel.sent.endswith(server_frame(CLOSE, closed(1001, "idle")))
    assert client.go() and app.got[-1] == gone(1001, "idle")


def test_a_client_that_need_not_answer_is_pinged_all_the_same() -> None:
    client, _ = opened(Rules(ping_interval_s=5, ping_timeout_s=0))
    client.time.pass_by(30)
    assert client.tunnel.sent == server_frame(PING) * 5 and client.tunnel.events == ["switch"]


def test_without_rules_nothing_is_looked_at() -> None:
    client, _ = opened(Rules(ping_interval_s=0))
    assert not client.time.timers
    client.time.pass_by(1e6)
    assert not client.tunnel.sent


def test_a_worker_that_leaves_tells_all_a_few_at_a_time_within_a_part_of_its_time() -> None:
    client, _ = opened()
    others = []
    for _ in range(999):
        app = Notes()
        other = Client.__new__(Client)
        other.tunnel = Tunnel(client.tunnel.payload)
        other.call = client.adapter.__class__(app, client.log, sockets=client.sockets).open(other.tunnel)  # type: ignore[arg-type]
        other.running = client.adapter.__class__(app, client.log).run(other.call)
        assert not other.go()
        others.append(other)
    client.sockets.leave(8)
    told = sum(bool(each.tunnel.sent) for each in others)
    assert 0 < told < 100
    client.time.pass_by(1.1)
    assert all(each.tunnel.sent == server_frame(CLOSE, closed(1001)) for each in others)
    client.time.pass_by(4)
    # Who did not answer is waited for no longer.
    assert all(each.tunnel.events == ["switch", "end"] for each in others)
