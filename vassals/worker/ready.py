"""Whether an app is ready, asked of the app itself: one request for ``ready-path`` inside the worker, before it says HELLO.

It is answered by the very adapter and crew that will answer clients, in every worker, and no router takes part in it: the
generation before goes on serving whatever comes of it (docs/decisions/0025-readiness.md). 503 is the app's own word for
"not now" (RFC 9110, 15.6.4), and is asked again; the gateway's start-timeout ends that. Any other answer than 2xx is final.

Imported only where ``ready-path`` is set.
"""

import time
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from emperor.protocol import packet
from vassals.adapters.answer import Answer

if TYPE_CHECKING:
    from vassals.worker.crew import Crew
    from vassals.worker.orders import Orders

_KEPT_BYTES: Final = 4096
_LINE_CHARS: Final = 200
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 1.0
_MOST_REDIRECT_CHARS: Final = 200


class Unready(Exception):
    """The app will not be ready. ``str()`` says what it answered."""


class Asked(Answer):
    """The way back of a request that nobody but us has made: keeps the head and the beginning of the body."""

    def __init__(self, payload: bytes) -> None:
        Answer.__init__(self, payload)
        self.head = b""
        self.kept = b""
        self.aborted = ""

    def body(self, offset: int) -> Any:
        return BytesIO()

    def finish(self, head: bytes, body: bytes) -> None:
        self.start(head, body)

    def start(self, head: bytes, body: bytes) -> None:
        self.head = head
        self.send(body)

    def send(self, body: bytes) -> None:
        self.kept += body[: _KEPT_BYTES - len(self.kept)]
        if len(self.kept) >= _KEPT_BYTES:
            self.gone = "enough of it has been seen"  # it may be endless

    def look(self) -> None:
        pass

    def end(self) -> None:
        pass

    def abort(self, reason: str) -> None:
        if not self.gone:
            self.aborted = reason

    @property
    def status(self) -> int:
        """0: there was no answer."""
        return int(self.head[:3] or b"0")

    def told(self) -> str:
        """What the app said: the status line, where a redirect leads, the first line of the body."""
        if not self.head:
            return self.aborted or "no answer"
        line, *fields = self.head.decode("latin-1").split("\r\n")
        parts = [line]
        for field in fields:
            name, _, value = field.partition(":")
            if name.lower() == "location":
                parts.append(f"to {value.strip()[:_MOST_REDIRECT_CHARS]}")
        text = self.kept.decode("utf-8", "replace").strip()
        first = text.splitlines()[0] if text else ""
        parts += [each for each in (first[:_LINE_CHARS], self.aborted) if each]
        return ": ".join(parts)


def wait_ready(
    path: str,
    host: str,
    run: Callable[[Answer], str],
    crew: "Crew | None",
    orders: "Orders",
    pause: Callable[[float], None] = time.sleep,
) -> bool:
    """Asks until the app answers 2xx. False: it is time to leave. Raises Unready, CrewError."""
    pause_s = _FIRST_PAUSE_S
    told = ""
    while True:
        asked = Asked(request(path, host))
        reason = ask(asked, run, crew)
        answer = f"ready-path {path}: {asked.told()}"
        if reason:
            raise Unready(f"ready-path {path}: {reason}")
        if 200 <= asked.status < 300 and not asked.aborted:
            return True
        if asked.status != 503:
            raise Unready(answer)
        if told != answer:
            told = answer
            orders.tell("waiting", reason=answer)
        pause(pause_s)
        pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
        orders.take()
        if orders.leave:
            return False


def ask(asked: Asked, run: Callable[[Answer], str], crew: "Crew | None") -> str:
    """Runs the request where requests will run. Returns the reason to leave that the app gave, or nothing."""
    if crew is None:
        return run(asked)
    reasons: list[str] = []
    crew.once(lambda: reasons.append(run(asked)))
    return reasons[0] if reasons else "the request was ended from within"


def request(path: str, host: str) -> bytes:
    """The packet of GET ``path``, as the router would have made it of a client on this machine."""
    before, _, query = path.partition("?")
    pairs = (
        ("REQUEST_METHOD", "GET"),
        ("REQUEST_URI", path),
        ("PATH_INFO", _unquoted(before)),
        ("QUERY_STRING", query),
        ("SCRIPT_NAME", ""),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("SERVER_NAME", host),
        ("SERVER_PORT", "80"),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("REMOTE_PORT", "0"),
        ("REQUEST_SCHEME", "http"),
        ("HTTP_HOST", host),
        ("HTTP_USER_AGENT", "emperor-ready-path"),
        ("HTTP_ACCEPT", "*/*"),
    )
    return packet.encode([(key.encode(), value.encode("latin-1")) for key, value in pairs])


def _unquoted(path: str) -> str:
    head, *rest = path.split("%")
    for part in rest:
        try:
            head += bytes.fromhex(part[:2]).decode("latin-1") + part[2:] if len(part) > 1 else f"%{part}"
        except ValueError:  # as the router leaves it
            head += f"%{part}"
    return head
