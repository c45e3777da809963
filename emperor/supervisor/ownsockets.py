"""The emperor's own two sockets in the run directory, and where else its statistics are read.

`control.sock` takes the operator's commands, `stats.sock` and the address `stats` give the statistics to whoever may connect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from socket import socket
from typing import Any

from emperor.control.server import ControlServer, Operation, Reply
from emperor.stats.server import StatsServer
from emperor.supervisor import sockets
from emperor.supervisor.handover import Handover, Keep
from emperor.supervisor.loop import Loop
from emperor.supervisor.rundir import RunDir
from emperor.supervisor.sockets import Address

OWN_STATS = "stats.sock"
"""The one in the run directory, among the addresses of statistics."""


class OwnSockets:
    """Those of one emperor. `answer(take)` gives `take` the statistics as they are sent; `stats` is the address of the
    settings."""

    def __init__(
        self,
        loop: Loop,
        run_dir: RunDir,
        stats: str | None,
        operations: Mapping[str, Operation],
        answer: Callable[[Callable[[bytes], None]], None],
    ) -> None:
        self._loop = loop
        self._run_dir = run_dir
        self._address = None if stats is None else Address.parse(stats)
        self._operations = dict(operations)
        self._stats = StatsServer(loop, answer)
        self._control: ControlServer | None = None

    def open(self) -> None:
        """Raises BindError."""
        if self._address is not None:
            self._stats.listen(sockets.listen(self._address), str(self._address))
        self._listen_for_statistics()
        self._listen_for_commands()

    def held(self) -> dict[str, Callable[[], None]]:
        """What has to be in the run directory, and how each is made again."""
        return {
            self._run_dir.control: self._listen_for_commands,
            self._run_dir.stats: self._listen_for_statistics,
        }

    def _listen_for_commands(self) -> None:
        sock = sockets.listen(Address(path=self._run_dir.control), 0o600)
        if self._control is None:
            self._control = ControlServer(self._loop, sock, self._operations)
        else:
            self._control.listen_at(sock)

    def _listen_for_statistics(self) -> None:
        if OWN_STATS in self._stats.listening:
            self._stats.unlisten(OWN_STATS)
        self._stats.listen(sockets.listen(Address(path=self._run_dir.stats), 0o600), OWN_STATS)

    # -- becoming another version -------------------------------------------------------------------------

    def hand_over(self, keep: Keep, waiting: Mapping[str, list[Reply]]) -> dict[str, Any]:
        """For `resume` of another program in this process; `waiting` is who is owed an answer, and for what."""
        assert self._control is not None
        return {
            "control": self._control.hand_over(keep, waiting),
            "stats": [
                {"address": address, "fd": keep(sock.fileno())}
                for address, sock in self._stats.listening.items()
            ],
        }

    def resume(self, handed: Handover) -> dict[str, list[Reply]]:
        """Go on with what was handed over: who is owed an answer, and for what."""
        document = handed.document
        handed.take_all(document["control"])
        control = socket(fileno=document["control"]["fd"])
        self._control = ControlServer(self._loop, control, self._operations)
        owed = self._control.resume(document["control"])
        for each in document["stats"]:
            if each["address"] in (OWN_STATS, None if self._address is None else str(self._address)):
                self._stats.listen(socket(fileno=handed.take(each["fd"])), each["address"])
        return owed

    @property
    def quiet(self) -> bool:
        """Nobody waits for statistics."""
        return self._stats.quiet

    def rest(self) -> None:
        """Begin no answer with statistics until `go_on`."""
        self._stats.rest()

    def go_on(self) -> None:
        self._stats.go_on()

    def refuse_others(self, text: str, waiting: list[Reply]) -> None:
        """Whoever waits for an answer, but for these, is told `text`."""
        assert self._control is not None
        self._control.refuse_waiting(text, waiting)

    def close(self) -> None:
        self._stats.close()
        if self._control is not None:
            self._control.close()
