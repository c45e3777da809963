"""ASGI 3, WebSocket: one `WebSocket` for each client that asks for one. docs/specs/websocket.md has it clause by clause.

The adapter owns the handshake, frames, and what an app may do: bytes go through an `Exchange`, which has become a tunnel once
the app has accepted. Frames are read as they come, whether the app asks for them or not, so that a ping is answered and a
close seen; messages wait for the app up to `QUEUE_BYTES`, and then the client has to (`Exchange.took`).

What goes out is one frame at a time (`_flush`): the app's, then a pong, then a close. A frame that has begun is sent to its end
even when its task is cancelled, since nothing can follow half a frame.

What an app may send is a table, `STEPS`. What each end looks like is in `WebSocket`; who is looked at when, in `Sockets`.
"""

import traceback
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, Protocol

from emperor.protocol import websocket
from emperor.protocol.errors import WebSocketError
from emperor.protocol.scope import field_lines
from vassals.adapters.asgi import AsgiError, ClientGone, Message, Request
from vassals.adapters.asgi import Exchange as Plain

QUEUE_BYTES: Final = 64 * 1024
"""Messages that wait for the app, with `MESSAGE_COST` for each, from which on its client is not read."""

MESSAGE_COST: Final = 64

DEFLATE_LEAST: Final = 512
"""Smaller messages are not compressed: it would take more time than it saves bytes."""

CLOSE_S: Final = 5.0
"""How long a client may take to answer a close frame."""

ROUTER_S: Final = 1.5
"""The same where the router leaves."""

AWAY_PER_S: Final = 1000
"""So many are told to go in a second when the worker leaves: they all come back, somewhere."""

AWAY_STEP_S: Final = 0.02
_SOONEST_S: Final = 0.02
_ROUNDS_S: Final = 1.0

# What has been, of one of them.
ASKED: Final = "before websocket.accept"
OPEN: Final = "after websocket.accept"
DENYING: Final = "in the middle of a denial response"
CLOSED: Final = "after websocket.close"
DENIED: Final = "after the denial response"

# What may come.
ACCEPT: Final = "websocket.accept"
SEND: Final = "websocket.send"
CLOSE: Final = "websocket.close"
DENY_START: Final = "websocket.http.response.start"
DENY_BODY: Final = "websocket.http.response.body"

STEPS: Final[dict[tuple[str, str], str]] = {
    (ASKED, ACCEPT): OPEN,
    (ASKED, CLOSE): CLOSED,
    (ASKED, DENY_START): DENYING,
    (DENYING, DENY_BODY): DENYING,
    (OPEN, SEND): OPEN,
    (OPEN, CLOSE): CLOSED,
}

_OURS: Final = frozenset(
    (b"sec-websocket-accept", b"sec-websocket-extensions", b"sec-websocket-key", b"sec-websocket-version")
)
"""Fields of the handshake that are not the app's."""

_PLAIN: Final = b"Content-Type: text/plain\r\nContent-Length: %d\r\n"


class Exchange(Plain, Protocol):
    """What a WebSocket needs beside: `vassals.worker.asynclink.LoopExchange` is the real one."""

    def switch_now(self, head: bytes, listener: "WebSocket") -> None:
        """The head of a 101; from now on bytes, by `send_now` and the listener's methods."""
        ...

    def took(self, size: int) -> None:
        """So many bytes that came are gone from memory, or are a part of a message."""
        ...

    def wake(self) -> None:
        """Whoever awaits `changed` looks again."""
        ...


class Rules(NamedTuple):
    """The vassal's options. Seconds; 0 is never."""

    most: int = 16 * 1024 * 1024
    ping_interval_s: float = 20.0
    ping_timeout_s: float = 20.0
    idle_s: float = 0.0
    deflate: bool = True


class Clock(NamedTuple):
    """An event loop's. ``stir`` is told that there is something to do, for whoever looks whether it is done in time."""

    now: Callable[[], float]
    call_later: Callable[..., Any]
    stir: Callable[[], None]


class WebSocket:
    """One of them: what its `receive` and `send` do, and how far it is.

    ``code`` is 0 while it is open for the app, then what `websocket.disconnect` says. ``ended``: the exchange is over. ``cut``
    is empty, or why it was ended in the app's place before it was open.

    ===============================  =========================  ================================================
    end                              client gets                app gets
    ===============================  =========================  ================================================
    the client closes                the same code              its code and reason; 1005 if it gave none
    the client goes                                             1006
    a frame that breaks a rule       1002, 1007 or 1009         the same
    no pong, no word                 1011                       1011
    idle for too long                1001                       1001
    the worker, or the router leaves 1001                       1001
    the app closes                   its code                   the same, should it ask
    the app returns, raises          1000, 1011
    the worker dies                  the connection is reset
    ===============================  =========================  ================================================
    """

    __slots__ = (
        "_bits",
        "_bye",
        "_connected",
        "_denial",
        "_exchange",
        "_fin",
        "_finishes",
        "_held",
        "_messages",
        "_out",
        "_out_at",
        "_owner",
        "_pieces",
        "_pong",
        "_queued",
        "_reader",
        "_reason",
        "_uncredited",
        "bye_by",
        "code",
        "cut",
        "ended",
        "heard_at",
        "pinged_at",
        "round",
        "scope",
        "state",
        "used_at",
    )

    lasts: Final = True

    def __init__(self, exchange: Exchange, scope: dict[str, Any], owner: "Sockets") -> None:
        self.scope = scope
        self.state = ASKED
        self.code = 0
        self.ended = False
        self.cut = ""
        self._exchange = exchange
        self._owner = owner
        self._connected = False
        self._denial: Request | None = None
        self._reason = ""
        self._reader: websocket.Reader | None = None
        self._bits = 0  # of the window that what we compress may need; 0: nothing is compressed
        # In
        self._messages: deque[str | bytes] | None = None
        self._queued = 0
        self._held = False  # there are so many of them that no more is read
        self._pieces: deque[bytes] | None = None  # that came since
        self._uncredited = 0
        self._fin = False
        # Out
        self._out = b""
        self._out_at = 0
        self._pong: bytes | None = None
        self._bye = b""
        self._finishes = False  # and then nothing more is waited for
        # For the rounds
        self.heard_at = 0.0  # the last byte of the client's
        self.used_at = 0.0  # the last message, either way
        self.pinged_at = 0.0  # and no word since; 0: it was not
        self.bye_by = 0.0  # when it is ended without the client's close frame; 0: it is not waited for
        self.round = -1

    # What the app gets.

    async def receive(self) -> Message:
        """``websocket.connect``, then messages as they come, then ``websocket.disconnect``, again to whoever asks again."""
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        while True:
            if self._messages:
                message = self._messages.popleft()
                self._queued -= len(message) + MESSAGE_COST
                if self._held and self._queued <= QUEUE_BYTES // 2:
                    self._go_on()
                if type(message) is str:
                    return {"type": "websocket.receive", "text": message}
                return {"type": "websocket.receive", "bytes": message}
            if self.code or self.ended or self._exchange.gone:
                return {
                    "type": "websocket.disconnect",
                    "code": self.code or websocket.ABNORMAL,
                    "reason": self._reason,
                }
            await self._exchange.changed()

    async def send(self, message: Message) -> None:
        """Sends all of ``message``. Raises AsgiError, or TypeError or ValueError naming what cannot be sent; ClientGone when
        nobody wants it."""
        try:
            kind = message["type"]
        except (TypeError, KeyError):
            raise AsgiError(f"send() wants a dict with a 'type', not {type(message).__name__}") from None
        if kind == SEND and self.state is OPEN and not self.code:
            self.used_at = self._owner.now()
            out = self._frame(message)
            if not self._out:
                at = self._exchange.send_now(out, 0)
                if at == len(out):
                    return
                self._out, self._out_at = out, at
            await self._send_on(out)
            return
        act = _ACTS.get(kind)
        if act is None:
            raise AsgiError(f"send() of {kind!r}, which is no message of a websocket scope")
        await act(self, message)

    def _step(self, what: str) -> None:
        """To the next state, or an error. Nothing has been sent when it raises."""
        if self.cut:
            raise ClientGone(self.cut)
        after = STEPS.get((self.state, what))
        if after is None:
            raise AsgiError(f"{what} came {self.state}")
        if self.gone:
            raise ClientGone(self.gone)
        self.state = after

    # The handshake.

    async def _accept(self, message: Message) -> None:
        lines = self._handshake(message)
        self._step(ACCEPT)
        self._messages = deque()
        self._exchange.switch_now(b"101 Switching Protocols\r\n" + lines, self)
        self._owner.opened(self)

    def _handshake(self, message: Message) -> bytes:
        """The lines of a 101."""
        scope, owner = self.scope, self._owner
        lines = field_lines(message.get("headers", ()))
        for name, _ in message.get("headers", ()):
            lower = bytes(name).lower()
            if lower in _OURS:
                raise ValueError(f"websocket.accept has the header {name!r}, which is the server's")
            if lower == b"sec-websocket-protocol":
                raise ValueError(
                    "websocket.accept has the header sec-websocket-protocol: name it as its subprotocol"
                )
        subprotocol = message.get("subprotocol")
        if subprotocol is not None:
            if not isinstance(subprotocol, str):
                raise TypeError(f"subprotocol must be str, not {type(subprotocol).__name__}")
            if subprotocol not in scope["subprotocols"]:
                raise ValueError(
                    f"websocket.accept has the subprotocol {subprotocol!r}; the client offers {scope['subprotocols']}"
                )
            lines += b"Sec-WebSocket-Protocol: %b\r\n" % subprotocol.encode()
        asked = fields_of(scope)
        theirs = 0
        offers = (
            websocket.offered(asked.get(b"sec-websocket-extensions", b"")) if owner.rules.deflate else None
        )
        if offers and (agreed := websocket.agree(offers)) is not None:
            answer, theirs, self._bits = agreed
            lines += b"Sec-WebSocket-Extensions: %b\r\n" % answer
        self._reader = websocket.Reader(owner.rules.most, theirs)
        key = websocket.accept_key(asked[b"sec-websocket-key"])
        assert key is not None
        return b"Sec-WebSocket-Accept: %b\r\n" % key + lines

    async def _deny(self, message: Message) -> None:
        """A response as of an http scope, in place of the handshake."""
        start = message["type"] == DENY_START
        plain = {**message, "type": message["type"].removeprefix("websocket.")}
        if self._denial is None and start:
            denial = Request(self._exchange, {"method": "GET"})
            await denial.send(plain)
            self._step(DENY_START)
            self._denial = denial
            return
        self._step(DENY_START if start else DENY_BODY)
        assert self._denial is not None
        try:
            await self._denial.send(plain)
        finally:
            if self._denial.ended:
                self.ended = True
                self.state = DENIED

    # Frames of the app's.

    def _frame(self, message: Message) -> bytes:
        data = message.get("bytes")
        if data is None:
            text = message.get("text")
            if not isinstance(text, str):
                what = "neither text nor bytes" if text is None else f"text of {type(text).__name__}"
                raise TypeError(f"websocket.send has {what}: a str as its text, or bytes, expected")
            if self._bits and len(text) >= DEFLATE_LEAST:
                return self._deflated(websocket.TEXT, text.encode())
            return websocket.text(text)
        if not isinstance(data, bytes):
            if not isinstance(data, (bytearray, memoryview)):
                raise TypeError(f"the bytes of websocket.send must be bytes, not {type(data).__name__}")
            data = bytes(data)
        if self._bits and len(data) >= DEFLATE_LEAST:
            return self._deflated(websocket.BINARY, data)
        return websocket.frame(websocket.BINARY, data)

    def _deflated(self, kind: int, payload: bytes) -> bytes:
        packed = websocket.deflated(payload, self._bits)
        if packed is None or len(packed) >= len(payload):
            return websocket.frame(kind, payload)
        return websocket.frame(kind, packed, True)

    async def _send(self, message: Message) -> None:
        """The rare ways of it."""
        if self.state is OPEN and self.code:
            raise ClientGone(self.gone)
        self._step(SEND)

    async def _send_on(self, out: bytes) -> None:
        """What did not go at once, or stands behind what did not. Whoever is cancelled here has sent all of it, or nothing."""
        while self._out and self._out is not out:
            await self._exchange.changed()
            if self.code or self.gone:
                raise ClientGone(self.gone)
        if self._out is not out:
            self._out, self._out_at = out, 0
            self._flush()
        while self._out is out:
            await self._exchange.changed()
            if self.ended:
                raise ClientGone(self.gone)

    async def _close(self, message: Message) -> None:
        code = message.get("code", websocket.NORMAL)
        reason = message.get("reason") or ""
        if type(code) is not int or not isinstance(reason, str):
            raise TypeError(
                f"websocket.close wants an int as its code and a str as its reason, not {message!r}"
            )
        if not websocket.may_close_with(code):
            raise ValueError(
                f"websocket.close has the code {code}, which is no code for a close frame (RFC 6455, 7.4)"
            )
        if self.state is OPEN and self.code:
            return  # it is closed: by the client, or by us
        was = self.state
        self._step(CLOSE)
        if was is ASKED:
            self._refuse(403, b"403 Forbidden", b"Forbidden\n")
        else:
            self._tell(code, reason)
            self._say_bye(code, reason)

    # Ends.

    @property
    def gone(self) -> str:
        """Why nobody wants anything of it any more; or nothing."""
        if self.state is OPEN and self.code:
            return f"the WebSocket is closed ({self.code}{' ' if self._reason else ''}{self._reason})"
        return "" if self.ended else self._exchange.gone

    def _tell(self, code: int, reason: str) -> None:
        """It is over for the app, which is told once."""
        if not self.code:
            self.code = code
            self._reason = reason
            self._exchange.wake()

    def _say_bye(self, code: int, reason: str, within_s: float = CLOSE_S) -> None:
        """A close frame behind what is under way, which the client has so long to answer: 0, and nothing is waited for."""
        self._bye = websocket.close(code, reason)
        if within_s:
            self._owner.look_at(self, within_s)
            self.bye_by = self._owner.now() + within_s
        else:
            self._finishes = True
            # A client that takes nothing keeps the frame from going out.
            self._owner.look_at(self, CLOSE_S)
            self.bye_by = self._owner.now() + CLOSE_S
        self._flush()

    def go_away(self, within_s: float) -> None:
        """Its worker leaves, or its router."""
        if self.state is OPEN and not self.code:
            self._tell(websocket.GOING_AWAY, "")
            self._say_bye(websocket.GOING_AWAY, "", within_s)

    def fail(self, code: int, reason: str) -> None:
        """It cannot go on: nothing of the client's is read any more (RFC 6455, 7.1.7)."""
        self._tell(code, reason)
        if not self._bye and not self.bye_by:
            self._say_bye(code, reason, 0)
        else:
            self._finishes = True
            self._flush()

    def end(self) -> None:
        """The bytes are all. The connection is closed by the router, once the client has taken them."""
        if not self.ended:
            self.ended = True
            self._let_go()
            self._exchange.end()

    def _lost(self, why: str) -> None:
        """The client has gone, or the router."""
        if not self.ended:
            self.ended = True
            self._let_go()
            self._exchange.abort(why)
            self._tell(websocket.ABNORMAL, "")

    def _let_go(self) -> None:
        self._owner.closed(self)
        self._reader = self._pieces = None
        self._out = self._bye = b""
        self._pong = None

    def _refuse(self, status: int, line: bytes, body: bytes, fields: bytes = b"") -> None:
        """A response of ours in place of the handshake."""
        self.ended = True
        self._exchange.finish_now(line + b"\r\n" + fields + _PLAIN % len(body), body)

    # Bytes: what the link tells.

    def arrived(self, piece: bytes, fin: bool) -> None:
        """Of the client."""
        self.heard_at = self._owner.now()
        self._owner.stir()
        self._uncredited += len(piece)
        self._fin = self._fin or fin
        try:
            if self._held:
                if self._pieces is None:
                    self._pieces = deque()
                self._pieces.append(piece)
            elif self._reader is not None:
                self._reader.feed(piece)
                self._read()
        except Exception as error:
            self._owner.stumbled(self, error)
            self.fail(websocket.FAILED, "")

    def _go_on(self) -> None:
        """The app has taken messages: there is room for more."""
        self._held = False
        try:
            self._read()
            while self._pieces and not self._held and self._reader is not None:
                self._reader.feed(self._pieces.popleft())
                self._read()
        except Exception as error:
            self._owner.stumbled(self, error)
            self.fail(websocket.FAILED, "")

    def _read(self) -> None:
        """What is there, until so many messages wait that it is enough."""
        reader = self._reader
        if reader is None:
            return
        try:
            while True:
                if self._queued >= QUEUE_BYTES:
                    self._held = True
                    return
                found = reader.next()
                if found is None:
                    break
                if type(found) is tuple:
                    self._control(found)
                    if self.ended:
                        return
                elif not self.code:
                    assert self._messages is not None
                    self._messages.append(found)  # type: ignore[arg-type]
                    self._queued += len(found) + MESSAGE_COST
                    self.used_at = self.heard_at
        except WebSocketError as error:
            self.fail(error.code, str(error))
            return
        if self._pieces:
            return
        uncredited, self._uncredited = self._uncredited, 0
        if uncredited:
            self._exchange.took(uncredited)
        if self._fin and not self.ended:
            # It sends no more, and has said no word of it, or it has said all.
            self._tell(websocket.ABNORMAL, "")
            self.end()

    def _control(self, found: tuple[Any, ...]) -> None:
        kind = found[0]
        if kind == websocket.PING:
            self._pong = found[1]
            self._flush()
        elif kind == websocket.CLOSE:
            _, code, reason = found
            self._finishes = True
            if self.bye_by:
                self._flush()
            else:
                self._tell(code, reason)
                self._say_bye(code, reason, 0)

    def leave(self) -> None:
        """The router leaves, which does not wait for long."""
        try:
            self.go_away(ROUTER_S)
        except Exception as error:
            self._owner.stumbled(self, error)

    def stirred(self) -> None:
        """There is credit, or nobody wants it any more."""
        try:
            if self._exchange.gone:
                self._lost(self._exchange.gone)
            elif not self.ended:
                self._flush()
        except Exception as error:
            self._owner.stumbled(self, error)

    def _flush(self) -> None:
        """Sends what waits, as far as credit goes: the app's frame, a pong, a close frame, the end."""
        exchange = self._exchange
        while not self.ended:
            if self._out:
                self._out_at += exchange.send_now(self._out, self._out_at)
                if self._out_at < len(self._out):
                    return
                self._out, self._out_at = b"", 0
                exchange.wake()
            elif self._pong is not None:
                self._out, self._pong = websocket.frame(websocket.PONG, self._pong), None
            elif self._bye:
                self._out, self._bye = self._bye, b""
            elif self._finishes:
                self.end()
            else:
                return

    # The rounds.

    def look(self, now: float) -> float:
        """Its time has come: pings, and ends what is late. Returns in how many seconds the next look is due."""
        rules = self._owner.rules
        if self.bye_by:
            if now >= self.bye_by:
                if self._out or self._bye:
                    # It takes nothing, not even that.
                    self._lost("no close frame could be sent")
                else:
                    self.end()
                return 0.0
            return self.bye_by - now
        soonest = 0.0
        if rules.idle_s:
            soonest = rules.idle_s - (now - self.used_at)
            if soonest <= 0:
                self._tell(websocket.GOING_AWAY, "idle")
                self._say_bye(websocket.GOING_AWAY, "idle")
                return 0.0
        if rules.ping_interval_s:
            after = self._ping(now)
            if self.ended:
                return 0.0
            soonest = min(soonest, after) if soonest else after
        return max(soonest, _SOONEST_S)

    def _ping(self, now: float) -> float:
        """Asks who is silent, and gives up who stays so. Returns in how many seconds that is to be looked at again."""
        rules = self._owner.rules
        if self._held:
            self.heard_at = now  # its bytes may be there, and are not read
        if self.pinged_at > self.heard_at:
            left_s = self.pinged_at + rules.ping_timeout_s - now
            if not rules.ping_timeout_s:
                self.pinged_at = 0.0
            elif left_s > 0:
                return left_s
            else:
                self.fail(websocket.FAILED, "no pong")
                return 0.0
        silent_s = now - max(self.heard_at, self.pinged_at)
        if silent_s < rules.ping_interval_s:
            return rules.ping_interval_s - silent_s
        self.pinged_at = now
        if not self._out:
            self._out = websocket.frame(websocket.PING, b"")
            self._flush()
        return rules.ping_timeout_s or rules.ping_interval_s

    # What the worker asks and says: as `vassals.adapters.asgi.Request`.

    @property
    def path(self) -> bytes:
        path: str = self.scope["path"]
        return path.removeprefix(self.scope["root_path"]).encode("utf-8", "replace")

    def complaint(self) -> str:
        return "" if self._denial is None else self._denial.complaint()

    def give_up(self, why: str, status: int = 500) -> None:
        """Ends what the app will not, or shall not: with this status, or 1011."""
        if self.ended:
            return
        if self.state is ASKED or self._denial is not None:
            request = self._denial or Request(self._exchange, {"method": "GET"})
            request.give_up(why, status)
            self.ended = True
            self.cut = why
        elif not self.code:
            self.fail(websocket.FAILED, "")

    def returned(self) -> str:
        """The app has returned: ends what it has left open. Returns what is wrong with that, or nothing."""
        if self.cut or self.state in (CLOSED, DENIED):
            return self.complaint()
        if self._exchange.gone and not self.ended:
            self.give_up(self._exchange.gone)
            return ""
        if self.state is OPEN:
            if not self.code:
                self._tell(websocket.NORMAL, "")
                self._say_bye(websocket.NORMAL, "")
            return ""
        wrong = f"the app returned {self.state}, with the handshake not answered"
        self.give_up(wrong)
        return wrong


_ACTS: Final[dict[str, Callable[[WebSocket, Message], Awaitable[None]]]] = {
    ACCEPT: WebSocket._accept,
    SEND: WebSocket._send,
    CLOSE: WebSocket._close,
    DENY_START: WebSocket._deny,
    DENY_BODY: WebSocket._deny,
}


class Sockets:
    """All of a worker's: what they have in common, and when each is to be looked at."""

    def __init__(self, rules: Rules, clock: Clock, say: Callable[[str], None]) -> None:
        self.rules = rules
        self.now = clock.now
        self.stir = clock.stir
        self._call_later = clock.call_later
        self._say = say
        self._open: set[WebSocket] = set()
        # By when they are to be looked at, in steps: one timer for all of them, and none moves when a message comes.
        self._rounds: dict[int, set[WebSocket]] = {}
        times = [each for each in (rules.ping_interval_s, rules.ping_timeout_s, rules.idle_s) if each]
        self._step_s = min([_ROUNDS_S, *[each / 4 for each in times]])
        self._timer: Any = None
        self._timer_round = 0
        self._leaves_s = 0.0

    def ask(self, exchange: Exchange, scope: dict[str, Any]) -> WebSocket | None:
        """A client that asks for a WebSocket. None: not in a way that can be taken, which it has been told."""
        scope["type"] = "websocket"
        scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
        scope["extensions"] = {"websocket.http.response": {}}
        del scope["method"]
        asked = fields_of(scope)
        made = WebSocket(exchange, scope, self)
        offered = websocket.tokens(asked.get(b"sec-websocket-protocol", b""))
        if asked.get(b"sec-websocket-version") != b"13":
            # RFC 6455, 4.4: what we speak instead.
            made._refuse(
                426,
                b"426 Upgrade Required",
                b"This server speaks version 13 of WebSocket (RFC 6455).\n",
                b"Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n",
            )
        elif websocket.accept_key(asked.get(b"sec-websocket-key", b"")) is None:
            made._refuse(400, b"400 Bad Request", b"Sec-WebSocket-Key is not 16 bytes in base64.\n")
        elif offered is None:
            made._refuse(400, b"400 Bad Request", b"Sec-WebSocket-Protocol is no list of names.\n")
        elif (
            b"sec-websocket-extensions" in asked
            and websocket.offered(asked[b"sec-websocket-extensions"]) is None
        ):
            made._refuse(400, b"400 Bad Request", b"Sec-WebSocket-Extensions cannot be read.\n")
        else:
            scope["subprotocols"] = [each.decode() for each in offered]
            return made
        return None

    def opened(self, socket: WebSocket) -> None:
        self._open.add(socket)
        if self._leaves_s:
            socket.go_away(self._leaves_s)
            return
        first = [each for each in (self.rules.ping_interval_s, self.rules.idle_s) if each]
        socket.heard_at = socket.used_at = self.now()
        if first:
            self.look_at(socket, min(first))

    def closed(self, socket: WebSocket) -> None:
        self._open.discard(socket)
        found = self._rounds.get(socket.round)
        if found is not None:
            found.discard(socket)
        socket.round = -1

    def look_at(self, socket: WebSocket, after_s: float) -> None:
        """So long from now, or a step later."""
        found = self._rounds.get(socket.round)
        if found is not None:
            found.discard(socket)
        socket.round = int((self.now() + after_s) / self._step_s) + 1
        self._rounds.setdefault(socket.round, set()).add(socket)
        if self._timer is None or socket.round < self._timer_round:
            self._plan(socket.round)

    def _plan(self, round: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_round = round
        self._timer = self._call_later(max(0.0, round * self._step_s - self.now()), self._go_round)

    def _go_round(self) -> None:
        self._timer = None
        now = self.now()
        for round in [each for each in self._rounds if each * self._step_s <= now + _SOONEST_S / 2]:
            for socket in self._rounds.pop(round):
                socket.round = -1
                try:
                    after_s = socket.look(now)
                except Exception as error:
                    self.stumbled(socket, error)
                    continue
                if after_s and not socket.ended and socket.round < 0:
                    self.look_at(socket, after_s)
        if self._rounds and self._timer is None:
            self._plan(min(self._rounds))

    def leave(self, within_s: float) -> None:
        """The worker leaves within so long: all are told to go, a few at a time, as they will all come back somewhere. That and
        their word have half of the time."""
        self._leaves_s = max(0.05, min(CLOSE_S, within_s / 4))
        waiting = list(self._open)
        span_s = min(within_s / 4, len(waiting) / AWAY_PER_S)
        steps = max(1, int(span_s / AWAY_STEP_S))
        self._send_away(waiting, -(-len(waiting) // steps))

    def _send_away(self, waiting: list[WebSocket], count: int) -> None:
        for socket in waiting[:count]:
            socket.go_away(self._leaves_s)
        rest = waiting[count:]
        if rest:
            self._call_later(AWAY_STEP_S, self._send_away, rest, count)

    def stumbled(self, socket: WebSocket, error: Exception) -> None:
        """A fault of ours: it costs the one that set it off."""
        self._say(
            f"WebSocket {socket.path!r}: the worker stumbled over it:\n{''.join(traceback.format_exception(error))}"
        )


def fields_of(scope: dict[str, Any]) -> dict[bytes, bytes]:
    """The headers of a scope by name: the packet has each once."""
    return dict(scope["headers"])
