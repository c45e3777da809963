"""A wire between two hosts that can be cut without either being told: bytes stop, and no connection ends."""

import contextlib
import selectors
import socket
import threading


class Relay(threading.Thread):
    """Passes on what comes to `port` of the loopback to `target`, both ways, in a thread of its own."""

    def __init__(self, target: int) -> None:
        super().__init__(daemon=True)
        self._target = target
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
        with selectors.DefaultSelector() as selector:
            selector.register(self._ear, selectors.EVENT_READ)
            listening = False
            while not self._ends:
                wanted = {self._listener, *pairs} if not self._cut else set()
                if listening != (not self._cut):
                    for sock in {self._listener, *pairs}:
                        if self._cut:
                            selector.unregister(sock)
                        else:
                            selector.register(sock, selectors.EVENT_READ)
                    listening = not self._cut
                for key, _ in selector.select():
                    sock = key.fileobj
                    if sock is self._ear:
                        self._ear.recv(64)
                    elif sock in wanted:
                        self._move(sock, pairs, selector)  # type: ignore[arg-type]
        for sock in (self._listener, self._ear, self._bell, *pairs):
            sock.close()

    def _move(
        self,
        sock: socket.socket,
        pairs: dict[socket.socket, socket.socket],
        selector: selectors.BaseSelector,
    ) -> None:
        if sock is self._listener:
            one, _ = sock.accept()
            try:
                other = socket.create_connection(("127.0.0.1", self._target), 5)
            except OSError:
                one.close()
                return
            pairs[one], pairs[other] = other, one
            for each in (one, other):
                selector.register(each, selectors.EVENT_READ)
            return
        if sock not in pairs:
            return  # closed in this very turn
        piece = b""
        with contextlib.suppress(OSError):
            piece = sock.recv(65536)
        with contextlib.suppress(OSError):
            if piece:
                pairs[sock].sendall(piece)
                return
        other = pairs.pop(sock)
        pairs.pop(other, None)
        for each in (sock, other):
            selector.unregister(each)
            each.close()
