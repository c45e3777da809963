from typing import Final, Literal

from emperor.protocol.packet import RequestHead

HEAD_MOST: Final = 65536
FIELDS_MOST: Final = 1000

HTTP11: Final = 1
KEEP_ALIVE: Final = 2
HEAD: Final = 4
UWSGI: Final = 8
TRAILERS: Final = 16

NO_BODY: Final = 0
LENGTH: Final = 1
CHUNKED: Final = 2
UNTIL_CLOSE: Final = 3

class Limits:
    line: int
    head: int
    fields: int
    trailers: int
    chunk_line: int
    extensions: int
    def __init__(
        self,
        line: int = 16384,
        head: int = 65536,
        fields: int = 100,
        trailers: int = 8192,
        chunk_line: int = 256,
        extensions: int = 16384,
    ) -> None: ...

DEFAULTS: Final[Limits]

class Reader:
    started: bool
    trailed: bool
    secure: bool
    def __init__(self, prefix: bytes, believes: bool = False, limits: Limits = ...) -> None: ...
    def buffered(self) -> int: ...
    def idle(self) -> bool: ...
    def owed(self) -> int: ...
    def skip(self, count: int) -> None: ...
    def rest(self) -> bytes: ...
    def feed(self, data: bytes) -> None: ...
    def next(self) -> RequestHead | bytes | Literal[True] | None: ...

class Outcome:
    status: int
    length: int
    framing: int
    keep: bool
    head_bytes: int
    whole: bool

def respond(
    head: bytes, body: bytes, fin: bool, flags: int, date: bytes, request_id: bytes, outcome: Outcome
) -> bytes: ...
def response(
    head: bytes, flags: int, whole: int, date: bytes, request_id: bytes = b""
) -> tuple[int, bytes, int, int, bool]: ...
def interim(head: bytes) -> tuple[int, bytes]: ...
def switching(head: bytes, request_id: bytes) -> bytes: ...
def trailers(fields: bytes) -> bytes: ...
