"""The response of one ASGI request as far as it goes at once: what most apps send, a head and then a whole body.

`Reply.now` does that, and nothing else: nothing here waits, so it can be compiled (a compiled coroutine would hide where a
task waits). Whatever is less usual, and all that has to wait, is `vassals.adapters.asgi`'s. `Sending` is what the app awaits.
"""

from collections.abc import Coroutine
from typing import Any, Final

from emperor.protocol.scope import response_head
from vassals.adapters.frameless import Frameless

HEAD_LIMIT: Final = 65535 - 64

# What has been sent of a response. The table of what may come is STEPS, in `vassals.adapters.asgi`.
FRESH: Final = "before http.response.start"
HEADED: Final = "after http.response.start"
DONE: Final = "after the response was complete"

_FRESH = FRESH
_HEADED = HEADED
_DONE = DONE


class Reply:
    """``state`` is what the app has sent, ``ended`` whether the exchange is over. ``cut`` is empty, or why the response was
    ended in the app's place. ``is_head``: the request is a HEAD."""

    __slots__ = (
        "_bare",
        "_body_read",
        "_cut_bytes",
        "_exchange",
        "_head",
        "_length",
        "_senders",
        "_sent_bytes",
        "_trailer_lines",
        "_trails",
        "cut",
        "ended",
        "is_head",
        "scope",
        "state",
    )

    def __init__(self, exchange: Any, scope: dict[str, Any]) -> None:
        self.scope = scope
        self.state: str = _FRESH
        self.ended = False
        self.cut = ""
        self._exchange = exchange
        self._body_read = False
        self._head = b""
        self._length = -1
        # Now: an app may do with its scope what it likes.
        self.is_head: bool = scope["method"] == "HEAD"
        self._bare = self.is_head
        self._sent_bytes = 0
        self._cut_bytes = 0
        self._trails = False
        self._trailer_lines = b""
        self._senders: list[object] | None = (
            None  # who sends what does not go at once, and who waits for them
        )

    def send(self, message: Any) -> "Sending":
        """To be awaited, which sends all of ``message``. Raises, where it is awaited, AsgiError, or TypeError or ValueError
        naming what cannot be sent; ClientGone when nobody wants it."""
        sending = Sending.__new__(Sending)
        sending._reply = self
        sending._message = message
        return sending

    def _send_all(self, message: Any) -> Coroutine[Any, Any, None]:
        """What `now` has not taken, the long way: this may wait."""
        raise NotImplementedError

    def now(self, message: Any) -> bool:
        """Sends ``message``. False: it is not for here, and nothing was done. Raises TypeError or ValueError naming what
        cannot be sent."""
        if type(message) is not dict or self._senders or self.cut or self._exchange.gone:
            return False
        kind = message.get("type")
        if self.state is _HEADED:
            if kind != "http.response.body" or self._trails or message.get("more_body", False):
                return False
            body = message.get("body", b"")
            if type(body) is not bytes or not self._is_sent_whole(body):
                return False
            self.state = _DONE
            return True
        if self.state is _FRESH and kind == "http.response.start":
            self._take_head(message)
            self.state = _HEADED
            return True
        return False

    def _take_head(self, message: dict[str, Any]) -> None:
        status = message.get("status")
        head, length = response_head(status, message.get("headers", ()))
        if len(head) > HEAD_LIMIT:
            raise ValueError(f"the response head is {len(head)} bytes; at most {HEAD_LIMIT} can be sent")
        # RFC 9110, 6.4.1: no 204 or 304 has content.
        if status == 204 or status == 304:
            self._bare = True
        self._head, self._length = head, length
        self._trails = bool(message.get("trailers", False))

    def _is_sent_whole(self, body: bytes) -> bool:
        """The response is this, and nothing was sent before. False: it is too large to go at once."""
        size = len(body)
        head = self._head
        if self._bare:
            body = b""
        elif self._length < 0:
            self._length = size
            head = self._head = b"%bcontent-length: %d\r\n" % (head, size)
        elif size < self._length:
            self._sent_bytes = size
            self.ended = True
            self._exchange.abort(self.complaint())
            return True
        elif size > self._length:
            self._cut_bytes = size - self._length
            body = body[: self._length]
        if not self._exchange.finish_now(head, body):
            self._cut_bytes = 0
            return False
        self._head = b""
        self._sent_bytes = self._length
        self.ended = True
        return True

    def is_right(self) -> bool:
        """It has been ended by the app, and there is nothing to say of it."""
        return self.ended and not self.cut and not self._cut_bytes and not self.is_short()

    def is_short(self) -> bool:
        """It has less than it has declared."""
        return not self._bare and self._sent_bytes < self._length

    def complaint(self) -> str:
        """What is wrong with the response that was ended, for the log; or nothing."""
        if self._cut_bytes:
            return f"the app sent {self._cut_bytes} bytes of body beyond its content-length of {self._length}: they were cut"
        if self.ended and not self.cut and self.is_short():
            return f"the app sent {self._sent_bytes} bytes of body, but declared a content-length of {self._length}"
        return ""


class Sending(Frameless):
    """One `Reply.send`. Nothing is sent before it is awaited. What has to wait becomes a coroutine of Python's then."""

    __slots__ = ("_message", "_reply")

    _reply: Reply | None
    _message: Any

    def __next__(self) -> Any:
        if self._waits is None and self._goes_now():
            raise StopIteration
        return self._waits.send(None)

    def _goes_now(self) -> bool:
        reply = self._reply
        if reply is None:
            raise RuntimeError("cannot reuse already awaited send()")
        message = self._message
        self._reply = self._message = None
        if reply.now(message):
            return True
        self._waits = reply._send_all(message)
        return False
