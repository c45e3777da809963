"""A wire between two hosts, as long as is wanted, that can be cut without either being told: bytes stop, no connection ends."""

import contextlib
import selectors
import socket
import threading
import time
from collections import deque


class Relay(threading.Thread):
    """Passes on what comes to `port` of the loopback to `target`, both ways, in a thread of its own."""

    def __init__(self, target: int, delay_s: float = 0.0, source: str = "") -> None:
        """``delay_s``: so long a byte is on its way. ``source``: the address of this host that it comes from."""
        super().__init__(daemon=True)
        self._target = target
        self._delay_s = delay_s
        self._source = (source, 0) if source else None
        self._under_way: deque[tuple[float, socket.socket, bytes]] = (
            deque()
        )  # when it is due, from whom; nothing: its end
        self._ended: set[socket.socket] = set()
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(64)
        self._bell, self._ear = socket.socketpair()
        self._cut = False
        self._ends = False
        self.start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def cut(self) -> None:
        """From now on nothing passes, and who connects is not answered."""
        self._cut = True
        self._bell.send(b"x")

    def heal(self) -> None:
        self._cut = False
        self._bell.send(b"x")

    def close(self) -> None:
        self._ends = True
        self._bell.send(b"x")
        self.join(10)

    def run(self) -> None:
        pairs: dict[socket.socket, socket.socket] = {}
        with self._selector as selector:
            selector.register(self._ear, selectors.EVENT_READ)
            listening = False
            while not self._ends:
                cut = self._cut  # which another thread sets
                if listening == cut:
                    for sock in {self._listener, *pairs} - self._ended:
                        if cut:
                            selector.unregister(sock)
                        else:
                            selector.register(sock, selectors.EVENT_READ)
                    listening = not cut
                left_s = None if cut else self._pass_on(pairs)
                self._ended &= pairs.keys()
                for key, _ in selector.select(left_s):
                    sock = key.fileobj  # type: ignore[assignment]
                    if sock is self._ear:
                        sock.recv(64)
                    elif listening and (sock is self._listener or sock in pairs):
                        self._move(sock, pairs)
        for sock in (self._listener, self._ear, self._bell, *pairs):
            sock.close()

    def _pass_on(self, pairs: dict[socket.socket, socket.socket]) -> float | None:
        """Deliver what is due. Returns how long it is until more is; None: nothing is under way."""
        under_way = self._under_way
        while under_way:
            due, sock, piece = under_way[0]
            left_s = due - time.monotonic()
            if left_s > 0:
                return left_s
            under_way.popleft()
            other = pairs.get(sock)
            if other is None:
                continue
            with contextlib.suppress(OSError):
                if piece:
                    other.sendall(piece)
                    continue
            for each in (sock, other):
                del pairs[each]
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(each)
                each.close()
        return None

    def _move(self, sock: socket.socket, pairs: dict[socket.socket, socket.socket]) -> None:
        if sock is self._listener:
            one, _ = sock.accept()
            try:
                other = socket.create_connection(("127.0.0.1", self._target), 5, self._source)
            except OSError:
                one.close()
                return
            pairs[one], pairs[other] = other, one
            for each in (one, other):
                self._selector.register(each, selectors.EVENT_READ)
            return
        piece = b""
        with contextlib.suppress(OSError):
            piece = sock.recv(65536)
        if not piece:
            self._selector.unregister(sock)
            self._ended.add(sock)
        self._under_way.append((time.monotonic() + self._delay_s, sock, piece))
