"""One deliberate request on a connection of its own, watched from a thread while the test disturbs the fleet."""

import threading
import time
from dataclasses import dataclass

from .fleet import Fleet
from .http import Connection
from .records import Begun, begun_requests
from .waiting import wait_for


@dataclass(frozen=True)
class Seen:
    """What the client saw: `status` 0 if no head came, whether the answer was `whole`, its body, and when it
    ended."""

    status: int
    whole: bool
    body: bytes
    done_s: float
    latency_s: float


class Probe:
    """A request to `vassal`'s nonce app. With `upload` of (declared, sent) bytes, the rest is never sent.

    `begun` waits for the app's own word that it runs; `flowing` for the first bytes of the answer; `seen` for
    the end.
    """

    def __init__(
        self,
        fleet: Fleet,
        vassal: str,
        nonce: str,
        query: str = "",
        upload: tuple[int, int] | None = None,
        timeout_s: float = 20.0,
    ) -> None:
        self._fleet, self._vassal, self.nonce = fleet, vassal, nonce
        self._upload, self._timeout_s = upload, timeout_s
        self._path = f"/?n={nonce}{query}"
        self._flowing = threading.Event()
        self._seen: Seen | None = None
        self._thread = threading.Thread(target=self._run, name=f"probe {nonce}", daemon=True)
        self._started_s = time.monotonic()
        self._thread.start()

    def begun(self, deadline_s: float = 5.0) -> Begun:
        """The app's record of this request."""
        log = self._fleet.nonce_log(self._vassal)
        found = wait_for(
            lambda: next((entry for entry in begun_requests(log) if entry.nonce == self.nonce), None),
            deadline_s,
            f"{self._vassal} to begin {self.nonce}",
            every_s=0.005,
        )
        assert found is not None
        return found

    def flowing(self, deadline_s: float = 5.0) -> None:
        """Returns once the head and some of the body have come."""
        assert self._flowing.wait(deadline_s), f"no answer to {self.nonce} within {deadline_s} s"

    def seen(self, deadline_s: float = 20.0) -> Seen:
        """The end of it, whatever it was."""
        self._thread.join(deadline_s)
        assert self._seen is not None, f"{self.nonce} has no outcome after {deadline_s} s"
        return self._seen

    def _run(self) -> None:
        status, body, whole = 0, b"", False
        try:
            with Connection(self._fleet.http_port, self._timeout_s) as connection:
                self._send(connection)
                status, pairs = connection.read_head()
                size = next((int(value) for name, value in pairs if name == "content-length"), None)
                while piece := connection.read_some():
                    body += piece
                    self._flowing.set()
                    if body.endswith(b"0\r\n\r\n") or (size is not None and len(body) >= size):
                        whole = True
                        break
        except OSError:
            pass
        done_s = time.monotonic()
        self._seen = Seen(status, whole, body, done_s, done_s - self._started_s)

    def _send(self, connection: Connection) -> None:
        head = (
            f"{'POST' if self._upload else 'GET'} {self._path} HTTP/1.1\r\nHost: {self._vassal}.localhost\r\n"
        )
        if self._upload is None:
            connection.send(head.encode() + b"\r\n")
        else:
            declared, sent = self._upload
            connection.send(f"{head}Content-Length: {declared}\r\n\r\n".encode())
            connection.send(b"u" * sent)
