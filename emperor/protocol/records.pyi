from typing import Final

WELCOME: Final = 1
REFUSED: Final = 2
REQUEST: Final = 3
DATA: Final = 4
TRAILERS: Final = 5
CREDIT: Final = 6
CANCEL: Final = 7
DEMAND: Final = 8
RELEASE: Final = 9
PING: Final = 10
DRAIN: Final = 11
BYE_ACK: Final = 12
BY_CHUTE: Final = 13
HELLO: Final = 33
READY: Final = 34
INTERIM: Final = 35
RESPONSE: Final = 36
RETURN: Final = 37
ABORT: Final = 38
GRANT: Final = 39
RECALL: Final = 40
PONG: Final = 41
BYE: Final = 42
CALL: Final = 43

NAMES: Final[dict[int, str]]

FIN: Final = 1
UPGRADE: Final = 2
IDEMPOTENT: Final = 4
AWAITS: Final = 8
CANCELS: Final = 16
GIVES_BACK: Final = 32
LATE: Final = 64
AGAIN: Final = 128

NO_WORD: Final = 0xFFFF
HEADER_SIZE: Final = 16
VERSION: Final = 1
MESSAGE_LIMIT: Final = 524288
BODY_LIMIT: Final = 65536
DATA_LEAST: Final = 128
TOKEN_SIZE: Final = 32
NONCE_SIZE: Final = 16

class Cursor:
    count: int
    type: int
    flags: int
    word: int
    stream: int
    size: int
    service_us: int
    head: bytes
    body: bytes
    def __init__(self, message: bytes) -> None: ...
    def next(self) -> bool: ...
    def payload(self) -> bytes: ...
    def read_response(self) -> None: ...

def pack(type: int, flags: int, word: int, stream: int, payload: bytes) -> bytes: ...
def pack_request(flags: int, word: int, stream: int, packet: bytes, body: bytes) -> bytes: ...
def pack_response(flags: int, word: int, stream: int, service_us: int, head: bytes, body: bytes) -> bytes: ...
def unpack_response(payload: bytes) -> tuple[int, bytes, bytes]: ...
def unpack(message: bytes) -> list[tuple[int, int, int, int, bytes]]: ...
def pack_hello(
    router_seat: int, seat: int, slots: int, generation: int, token: bytes, name: str, version: int = 1
) -> bytes: ...
def unpack_hello(payload: bytes) -> tuple[int, int, int, int, int, bytes, str]: ...
def pack_welcome(
    deck: int, epoch: int, credit: int, link_window: int, nonce: bytes, version: int = 1
) -> bytes: ...
def unpack_welcome(payload: bytes) -> tuple[int, int, int, int, int, bytes]: ...
def pack_ready(nonce: bytes, free: int, flags: int = 0, weight: int = 0xFFFF) -> bytes: ...
def unpack_ready(payload: bytes) -> tuple[bytes, int]: ...
def pack_grant(slots: int) -> bytes: ...
def pack_slots(count: int) -> bytes: ...
def unpack_grant(payload: bytes) -> int: ...
def pack_refused(code: int, reason: str) -> bytes: ...
def unpack_refused(payload: bytes) -> tuple[int, str]: ...
def pack_credit(stream: int, count: int) -> bytes: ...
def unpack_credit(payload: bytes) -> int: ...
