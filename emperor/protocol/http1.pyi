from typing import Final, Literal

from emperor.protocol.packet import RequestHead

HEAD_LIMIT: Final = 65536
LINE_LIMIT: Final = 16384
FIELDS_LIMIT: Final = 100
TRAILERS_LIMIT: Final = 8192
CHUNK_LINE_LIMIT: Final = 256

HTTP11: Final = 1
KEEP_ALIVE: Final = 2
HEAD: Final = 4
UWSGI: Final = 8

NO_BODY: Final = 0
LENGTH: Final = 1
CHUNKED: Final = 2
UNTIL_CLOSE: Final = 3

class Reader:
    started: bool
    def __init__(self, prefix: bytes, believes: bool = False) -> None: ...
    def buffered(self) -> int: ...
    def idle(self) -> bool: ...
    def feed(self, data: bytes) -> None: ...
    def next(self) -> RequestHead | bytes | Literal[True] | None: ...

def response(head: bytes, flags: int, whole: int, date: bytes) -> tuple[int, bytes, int, int, bool]: ...
