"""What an adapter needs of an exchange: where one request's answer goes.

A base class, since calls through it are on the path of every request; `vassals.worker.link.Exchange` is the real one.
"""

from io import BufferedReader, BytesIO


class Answer:
    """One request and the way back.

    ``payload`` is the packet and the first bytes of the body; ``gone`` is empty while somebody wants the answer, then the
    reason why nobody does. The adapter calls either `finish`, or `start`, any number of `send`, then `end`; or `abort` at
    any point; `look` before the end.
    """

    __slots__ = ("gone", "payload")

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.gone = ""

    def body(self, offset: int) -> BytesIO | BufferedReader:
        """The request's body as a binary file; its first bytes stand in the payload from ``offset`` on."""
        raise NotImplementedError

    def finish(self, head: bytes, body: bytes) -> None:
        """The whole response. ``head`` is at most 65,535 bytes."""
        raise NotImplementedError

    def start(self, head: bytes, body: bytes) -> None:
        """The head and the first bytes of a response of which more is to come."""
        raise NotImplementedError

    def send(self, body: bytes) -> None:
        """More of the response."""
        raise NotImplementedError

    def look(self) -> None:
        """Nothing to send: sees whether somebody still waits (`gone`)."""
        raise NotImplementedError

    def end(self) -> None:
        """The response is whole. Ends the request."""
        raise NotImplementedError

    def abort(self, reason: str) -> None:
        """The response cannot be finished. Ends the request."""
        raise NotImplementedError
