"""One large body on one connection, up or down."""

from __future__ import annotations

import time
from dataclasses import dataclass

from client import Connection, request
from processes import cpu_seconds
from row import Figures, Row, Size, Spoiled
from stacks import Stack

BYTES = 10**9
PIECE = bytes(1 << 20)


@dataclass(frozen=True)
class Bulk(Row):
    up: bool = False

    def measure(self, stack: Stack, size: Size) -> Figures:
        count = size.many(BYTES)
        connection = Connection(stack.address)
        connection.socket.settimeout(60)
        before, began = cpu_seconds(stack.roots), time.monotonic()
        try:
            moved = (
                upload(connection, stack.host, count) if self.up else download(connection, stack.host, count)
            )
        except OSError as error:
            raise Spoiled(f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()
        spent = time.monotonic() - began
        if moved != count:
            raise Spoiled(f"{moved} of {count} bytes")
        return {"mb_per_s": count / 1e6 / spent, "cpu_ms": (cpu_seconds(stack.roots) - before) * 1000}


def download(connection: Connection, host: str, count: int) -> int:
    """The body bytes that came."""
    connection.socket.sendall(request(host, f"/down?{count}"))
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.socket.recv(4096) or b"\r\n\r\n"
    came = len(head.partition(b"\r\n\r\n")[2])
    into = bytearray(len(PIECE))
    while came < count:
        size = connection.socket.recv_into(into)
        if size == 0:
            break
        came += size
    return came


def upload(connection: Connection, host: str, count: int) -> int:
    """The body bytes that the app has read, by its own word; 0 when the answer is none of its."""
    head = f"POST /up HTTP/1.1\r\nHost: {host}\r\nContent-Length: {count}\r\n\r\n".encode()
    connection.socket.sendall(head)
    for start in range(0, count, len(PIECE)):
        connection.socket.sendall(memoryview(PIECE)[: count - start])
    while (answer := connection.receive()) is None:
        continue
    return int(answer.body) if answer.status == 200 else 0
