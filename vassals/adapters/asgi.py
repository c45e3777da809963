"""ASGI 3: one call of `Asgi.run` for each exchange. docs/specs/asgi.md goes through the specification clause by clause.

The adapter owns the scope, ``receive`` and ``send``: what is asked of the app, what it may do, and what becomes of its
errors. Bytes go through an `Exchange`, whose credit it never counts: what does not go now is waited for, so `send` returns
when all of it has, and `receive` gives back what was read.

What an app may send is a table, `STEPS`: by what has been sent and what comes. All else is an error that names both.

It knows no event loop: `Exchange.changed` is what there is to await. What is said here is HTTP's; `vassals.adapters.websocket`
has the other kind of scope, and is a `Call` as `Request` is.
"""

import contextlib
import os
import traceback
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Protocol, TextIO

from emperor.protocol.scope import field_lines
from emperor.protocol.scope import scope as read_packet
from vassals.adapters.reply import DONE, FRESH, HEAD_LIMIT, HEADED, Reply
from vassals.adapters.running import Running, running

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

_FILE_PIECE: Final = 256 * 1024
_PLAIN: Final = b"\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"
_FAILED: Final = b"Internal Server Error\n"
_LATE: Final = b"Gateway Timeout\n"

CLIENT_GONE: Final = "the client has gone"


class AsgiError(RuntimeError):
    """The app broke a rule of ASGI. ``str()`` says which, for the app's author."""


class ClientGone(ConnectionError):
    """Raised by `send` when nobody wants the answer any more (ASGI 2.4: an OSError)."""


class Exchange(Protocol):
    """One request and the way back. `vassals.worker.asynclink.LoopExchange` is the real one.

    ``payload`` is the packet and the first bytes of the body; ``gone`` is empty while somebody wants the answer, then the
    reason why nobody does. Nothing waits but `changed`. Either `finish_now`, or `start_now`, any number of `send_now`, then
    `end` or `trailers`; or `abort` at any point. What is called after the end does nothing.
    """

    payload: bytes
    gone: str
    upgrade: bool
    """The client asks for a WebSocket."""

    def finish_now(self, head: bytes, body: bytes) -> bool:
        """The whole response; False: it is too large to go in one piece, and nothing was sent."""
        ...

    def start_now(self, head: bytes, body: bytes) -> int:
        """The head, and of the body what may go now. Returns how many bytes."""
        ...

    def send_now(self, body: bytes, offset: int) -> int:
        """What may go now of ``body`` from ``offset`` on. Returns how many bytes."""
        ...

    def interim(self, head: bytes) -> None:
        """A 1xx response, before the response."""
        ...

    def trailers(self, lines: bytes) -> None:
        """The body is whole, and this follows it. Ends the request."""
        ...

    def end(self) -> None:
        """The response is whole. Ends the request."""
        ...

    def abort(self, reason: str) -> None:
        """The response cannot be finished. Ends the request."""
        ...

    def read_from(self, offset: int) -> None:
        """The first bytes of the body stand in the payload from ``offset`` on."""
        ...

    def take(self) -> tuple[bytes, bool] | None:
        """The next piece of the body, and whether more follows; None: there is none now. What is taken is given credit for.
        Never called after the last piece."""
        ...

    def read_file(self, file: Any, most: int) -> Awaitable[bytes]:
        """At most so many bytes of an open file, without holding up others."""
        ...

    def changed(self) -> Awaitable[object]:
        """Waits until it may be worth it to try again: credit, a piece, or `gone`."""
        ...

    def wake(self) -> None:
        """Whoever waits so tries again."""
        ...


class Call(Protocol):
    """One call of the app. ``scope`` is its first argument. ``ended``: the exchange is over. ``cut`` is empty, or why it was
    ended in the app's place. ``lasts``: it may go on for hours, and has no deadline."""

    scope: dict[str, Any]
    ended: bool
    cut: str

    @property
    def lasts(self) -> bool: ...
    @property
    def path(self) -> bytes: ...
    @property
    def gone(self) -> str: ...
    def receive(self) -> Awaitable[Message]: ...
    def send(self, message: Message) -> Awaitable[None]: ...
    def complaint(self) -> str: ...
    def give_up(self, why: str, status: int = 500) -> None: ...
    def returned(self) -> str: ...


class Asked(Protocol):
    """`vassals.adapters.websocket.Sockets`."""

    def ask(self, exchange: Any, scope: dict[str, Any]) -> Call | None: ...


# What has been sent of a response, beside what `vassals.adapters.reply` names.
FLOWING: Final = "in the middle of the body"
TRAILING: Final = "after the body, with trailers announced"

# What may come. The last of a body is one of two, by what http.response.start announced.
START: Final = "http.response.start"
BODY: Final = "http.response.body"
LAST: Final = "http.response.body with more_body false"
LAST_OF_BODY: Final = "http.response.body before trailers"
PATHSEND: Final = "http.response.pathsend"
PATHSEND_OF_BODY: Final = "http.response.pathsend before trailers"
TRAILERS: Final = "http.response.trailers"
MORE_TRAILERS: Final = "http.response.trailers with more_trailers true"
EARLY_HINT: Final = "http.response.early_hint"

STEPS: Final[dict[tuple[str, str], str]] = {
    (FRESH, EARLY_HINT): FRESH,
    (FRESH, START): HEADED,
    (HEADED, BODY): FLOWING,
    (HEADED, LAST): DONE,
    (HEADED, LAST_OF_BODY): TRAILING,
    (HEADED, PATHSEND): DONE,
    (HEADED, PATHSEND_OF_BODY): TRAILING,
    (FLOWING, BODY): FLOWING,
    (FLOWING, LAST): DONE,
    (FLOWING, LAST_OF_BODY): TRAILING,
    (TRAILING, MORE_TRAILERS): TRAILING,
    (TRAILING, TRAILERS): DONE,
}


class Request(Reply):
    """One request of the app's: what its `receive` and `send` do, and how far its response is."""

    __slots__ = ()

    lasts: Final = False

    # What the app gets.

    async def receive(self) -> Message:
        """The next piece of the body; then, once the response is complete or the client has gone, ``http.disconnect``, which
        whoever asks again gets again, at once."""
        exchange = self._exchange
        if not self._body_read:
            while not exchange.gone and not self.ended:
                piece = exchange.take()
                if piece is not None:
                    self._body_read = not piece[1]
                    return {"type": "http.request", "body": piece[0], "more_body": piece[1]}
                await exchange.changed()
        while not exchange.gone and not self.ended:
            await exchange.changed()
        return {"type": "http.disconnect"}

    async def _send_all(self, message: Message) -> None:
        """What `now` has not taken. Raises what `send` says."""
        # In the order in which they were called: tasks of the app's may send beside each other, and a piece that waits for
        # credit must not have another in its middle.
        senders = self._senders
        if senders is None:
            senders = self._senders = []
        me = object()
        senders.append(me)
        try:
            while senders[0] is not me:
                await self._exchange.changed()
            await self._send(message)
        finally:
            senders.remove(me)
            if senders:
                self._exchange.wake()

    async def _send(self, message: Message) -> None:
        try:
            kind = message["type"]
        except (TypeError, KeyError):
            raise AsgiError(f"send() wants a dict with a 'type', not {_shown(message)}") from None
        if kind == "http.response.body":
            body = message.get("body", b"")
            if type(body) is not bytes:
                body = _as_bytes(body)
            if message.get("more_body", False):
                self._step(BODY)
                await self._body(body)
            else:
                self._step(LAST_OF_BODY if self._trails else LAST)
                await self._last(body)
            return
        act = _ACTS.get(kind)
        if act is None:
            raise AsgiError(f"send() of {kind!r}, which is no message of an http scope")
        await act(self, message)

    def _step(self, what: str) -> None:
        """To the next state, or an error. Nothing has been sent when it raises."""
        after = STEPS.get((self.state, what))
        if self.cut:
            raise ClientGone(self.cut)
        if after is None:
            raise AsgiError(f"{what} came {self.state}")
        if self._exchange.gone:
            raise ClientGone(self._exchange.gone)
        self.state = after

    async def _start(self, message: Message) -> None:
        """`now` has not taken it: nobody wants it, it comes out of turn, or it is no plain dict."""
        if self.state is not FRESH or self.cut or self._exchange.gone:
            self._step(START)
        else:
            self._take_head(dict(message))
            self._step(START)

    async def _body(self, body: bytes) -> None:
        """More of the body; the head goes with the first of it."""
        body = self._fitting(body)
        exchange = self._exchange
        at = 0
        if self._head:
            head, self._head = self._head, b""
            at = exchange.start_now(head, body)
        while at < len(body):
            at += exchange.send_now(body, at)
            if at < len(body):
                if exchange.gone:
                    raise ClientGone(self.cut or exchange.gone)
                await exchange.changed()

    async def _last(self, body: bytes) -> None:
        if self._head and self.state is DONE and self._is_sent_whole(body):
            return
        await self._body(body)
        if self.state is DONE:
            self._end()

    def _fitting(self, body: bytes) -> bytes:
        """What may be sent of it: nothing for a HEAD, and no more than was declared."""
        if self._bare:
            return b""
        if self._length >= 0:
            left = self._length - self._sent_bytes
            if len(body) > left:
                self._cut_bytes += len(body) - left
                body = body[:left]
        self._sent_bytes += len(body)
        return body

    def _end(self) -> None:
        self.ended = True
        if self.is_short():
            self._exchange.abort(self.complaint())
        elif self._trailer_lines:
            self._exchange.trailers(self._trailer_lines)
        else:
            self._exchange.end()

    async def _pathsend(self, message: Message) -> None:
        path = message.get("path")
        if not isinstance(path, str | bytes | os.PathLike):
            raise TypeError(f"the path of http.response.pathsend must be str, not {_shown(path)}")
        if (self.state, PATHSEND) not in STEPS:
            self._step(PATHSEND)
        with open(path, "rb", buffering=0) as file:
            if self._length < 0:
                size = os.fstat(file.fileno()).st_size
                self._length = size
                self._head += b"content-length: %d\r\n" % size
            self._step(PATHSEND_OF_BODY if self._trails else PATHSEND)
            await self._body(b"")
            while not self._bare and self._sent_bytes < self._length:
                piece = await self._exchange.read_file(
                    file, min(_FILE_PIECE, self._length - self._sent_bytes)
                )
                if not piece:
                    break
                await self._body(piece)
        if self.state is DONE:
            self._end()

    async def _trailers(self, message: Message) -> None:
        lines = field_lines(message.get("headers", ()))
        if len(self._trailer_lines) + len(lines) > HEAD_LIMIT:
            raise ValueError(
                f"the trailers are {len(self._trailer_lines) + len(lines)} bytes; at most {HEAD_LIMIT}"
            )
        more = bool(message.get("more_trailers", False))
        self._step(MORE_TRAILERS if more else TRAILERS)
        self._trailer_lines += lines
        if not more:
            self._end()

    async def _early_hint(self, message: Message) -> None:
        links = message.get("links", ())
        if isinstance(links, (str, bytes)) or not isinstance(links, Iterable):
            raise TypeError(
                f"the links of http.response.early_hint must be a list of bytes, not {_shown(links)}"
            )
        lines = field_lines([(b"link", link) for link in links])
        self._step(EARLY_HINT)
        if lines:
            self._exchange.interim(b"103 Early Hints\r\n" + lines)

    # What the worker asks and says.

    @property
    def path(self) -> bytes:
        """As the app's file writes paths, without where it is mounted: for limits by path."""
        path: str = self.scope["path"]
        return path.removeprefix(self.scope["root_path"]).encode("utf-8", "replace")

    @property
    def gone(self) -> str:
        """Why nobody wants the answer; or nothing."""
        gone: str = self._exchange.gone
        return gone

    def give_up(self, why: str, status: int = 500) -> None:
        """Ends a response that the app will not, or shall not: with this status, or by aborting what has begun."""
        if self.ended:
            return
        untouched = self.state is FRESH or bool(self._head)
        self.ended = True
        self.cut = why
        if untouched and not self._exchange.gone:
            line, body = (
                (b"504 Gateway Timeout", _LATE) if status == 504 else (b"500 Internal Server Error", _FAILED)
            )
            if self._exchange.finish_now(line + _PLAIN % len(body), b"" if self.is_head else body):
                return
        self._exchange.abort(self._exchange.gone or why)

    def returned(self) -> str:
        """The app has returned: ends what it has left open. Returns what is wrong with that, or nothing."""
        if self.is_right():
            return ""
        state = self.state
        if self.ended:
            return "" if self.cut else self.complaint()
        if self._exchange.gone:
            self.give_up(self._exchange.gone)
            return ""
        if state is TRAILING:
            self._end()
            return "the app returned without the trailers that it had announced"
        wrong = f"the app returned {state}, with the response not complete"
        self.give_up(wrong)
        return wrong


_ACTS: Final[dict[str, Callable[[Request, Message], Awaitable[None]]]] = {
    "http.response.start": Request._start,
    "http.response.pathsend": Request._pathsend,
    "http.response.trailers": Request._trailers,
    "http.response.early_hint": Request._early_hint,
}


class Asgi:
    """Runs one ASGI app, any number of requests at a time."""

    def __init__(
        self,
        app: App,
        errors: TextIO,
        *,
        state: dict[str, Any] | None = None,
        raised: Callable[[BaseException], None] | None = None,
        leave: Callable[[str], None] | None = None,
        sockets: Asked | None = None,
    ) -> None:
        """``sockets`` makes what asks for a WebSocket one; without it, that is a request as any other. ``state`` is the
        lifespan's. ``raised`` is told of each error that the app lets out, but those of a client that has gone; ``leave`` of a
        reason to leave, when it raised SystemExit."""
        self._app = app
        self._errors = errors
        self.state = {} if state is None else state
        self._raised = raised
        self._leave = leave
        self._sockets = sockets

    def open(self, exchange: Exchange) -> Call | None:
        """What has come by ``exchange``. None: it is answered already. Raises PacketError."""
        scope, offset = read_packet(exchange.payload, self.state)
        if self._sockets is not None and exchange.upgrade:
            return self._sockets.ask(exchange, scope)
        exchange.read_from(offset)
        return Request(exchange, scope)

    def run(
        self,
        request: Call,
        among: dict[Any, Any] | None = None,
        over: Callable[[Call], None] | None = None,
    ) -> Running:
        """To be awaited, or made a task of: has the app answer, and ends the exchange. Raises nothing. At the end ``request``
        is taken out of ``among``, and ``over`` is called."""
        return running(self, self._app, request, among, over)

    def look_after(self, request: Call) -> None:
        """The app has returned."""
        wrong = request.returned()
        if wrong:
            self.complain(request, wrong)

    def failed(self, request: Call, error: BaseException) -> None:
        """The app has raised."""
        if request.cut:
            # Ended in its place, and told why; this is how the app takes it.
            return
        if not request.ended and request.gone and isinstance(error, OSError):
            request.give_up(request.gone)
            return
        self.complain(request, _traceback(error))
        if self._raised is not None:
            self._raised(error)
        request.give_up(f"the app raised {type(error).__name__} in the middle of its response")
        if isinstance(error, SystemExit) and self._leave is not None:
            self._leave(f"the app raised SystemExit({error.code!r})")

    def complain(self, request: Call, text: str) -> None:
        """A line, or a traceback, in the app's log."""
        with contextlib.suppress(Exception):
            self._errors.write(f"{told(request)}: {text.rstrip()}\n")
            self._errors.flush()


def told(request: Call) -> str:
    """Method and target, for the log; as far as the app has left them there."""
    scope = request.scope
    query = _text(scope.get("query_string"))
    target = (_text(scope.get("raw_path")) or "?") + (f"?{query}" if query else "")
    text = f"{scope.get('method', 'WebSocket' if request.lasts else '?')} {target}"
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else ""


async def no_app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Stands in for an app that could not be loaded when ``need-app`` is off."""
    if scope["type"] == "http":
        await send({"type": START, "status": 500, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": BODY, "body": b"This vassal has no app.\n"})


def _as_bytes(body: Any) -> bytes:
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    raise TypeError(f"the body of http.response.body must be bytes, not {_shown(body)}")


def _shown(value: Any) -> str:
    return "None" if value is None else type(value).__name__


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # MemoryError again, or an exception whose str() raises
        return type(error).__name__
