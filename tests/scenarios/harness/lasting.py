"""A download and an upload that last as long as the test wants, while something happens to those who serve them."""

import threading
from collections.abc import Iterator

from .fleet import Fleet
from .http import Connection

LASTS_S = 60.0

STREAMS = """
    import os, time
    def application(environ, start_response):
        start_response("200 OK", [])
        while not os.path.exists(os.environ["UNTIL"]):
            yield b"x" * 1000
            time.sleep(0.02)
        yield b"the end"
    """
"""An app whose responses last until the file that `UNTIL` names is there."""


class Download:
    """A response that lasts until the app ends it. It has begun."""

    def __init__(self, fleet: Fleet, name: str, path: str = "/") -> None:
        self._begun = threading.Event()
        self.whole: bool | None = None

        def take() -> None:
            taken = b""
            with Connection(fleet.http_port, LASTS_S) as connection:
                connection.send(
                    f"GET {path} HTTP/1.1\r\nHost: {name}.localhost\r\nConnection: close\r\n\r\n".encode()
                )
                try:
                    while piece := connection.sock.recv(65536):
                        taken += piece
                        self._begun.set()
                except OSError:
                    pass
            self.whole = taken.endswith(b"the end\r\n0\r\n\r\n")

        self._thread = threading.Thread(target=take)
        self._thread.start()
        assert self._begun.wait(20)

    def end(self) -> bool:
        """Whether it came whole, once it has ended."""
        self._thread.join(LASTS_S)
        assert self.whole is not None, "it goes on"
        return self.whole


class Upload:
    """A chunked body, to an app that answers with its size (`Fleet.nonce_vassal`), that lasts until `end`."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self._enough = threading.Event()
        self.whole: bool | None = None

        def pieces() -> Iterator[bytes]:
            while not self._enough.wait(0.02):
                yield b"u" * 1000
            yield b"the end"

        def send() -> None:
            with Connection(fleet.http_port, LASTS_S) as connection:
                said = connection.request(f"{name}.localhost", "/?n=u", "POST", pieces())
                self.whole = int(said.text.split()[2]) % 1000 == len("the end")

        self._thread = threading.Thread(target=send)
        self._thread.start()

    def end(self) -> bool:
        """Whether all of it came to the app."""
        self._enough.set()
        self._thread.join(LASTS_S)
        return self.whole is True
