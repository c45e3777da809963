"""What can be wrong with bytes, in one place.

Each error says whose fault it is by its class, carries a one-line reason, and, where a client is to be told, the status
to answer with. The caller turns it into an answer, a link fault or a log line; it never travels further.
"""


class ProtocolError(Exception):
    """The peer sent something that its protocol does not allow. ``str()`` is the reason, for the log."""


class RecordError(ProtocolError):
    """A backplane message that is not whole records (docs/specs/backplane.md, section 2): a link fault."""


class PacketError(ProtocolError):
    """A uwsgi packet that cannot be read.

    ``status`` is the HTTP status to answer with (400, 431, 501), or 0 when the bytes are no uwsgi at all and the
    connection is closed without an answer.
    """

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


class BoardError(Exception):
    """The page cannot be used: wrong size, missing seals, not mappable. A fault of that vassal alone."""


class HttpError(ProtocolError):
    """A request that is answered with ``status`` and after which the connection cannot go on.

    ``limit`` is the option that it went beyond, if it did. ``accept`` and ``is_head``: what the head says of the answer's form,
    where its lines are all there.
    """

    def __init__(self, status: int, reason: str, limit: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.limit = limit
        self.accept = b""
        self.is_head = False


class ResponseError(ProtocolError):
    """A response head from a worker that must not reach a client: answered 502, logged with the reason."""


class WebSocketError(ProtocolError):
    """A client's frame that breaks RFC 6455. ``code`` is what the connection is closed with; ``str()`` is the reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
