"""How many routers let clients in, after a start that may have found some, and workers of a version before."""

from __future__ import annotations

from typing import Protocol

from emperor.supervisor.gateways import Gateways
from emperor.supervisor.succession import Routers


class Logger(Protocol):
    """What is needed of `emperor.log.Log`."""

    def warning(self, text: str) -> None: ...


def settle(routers: Routers, gateways: Gateways, count: int, log: Logger) -> None:
    """Let there be `count` of them, if those who are there can share workers."""
    if count > len(routers.serving):
        if not routers.share:
            log.warning(
                f"routers = {count}: the one that runs is of a version that cannot share workers with another, and serves "
                "alone: start the emperor anew"
            )
            return
        if unshared := gateways.unshared():
            names = ", ".join(unshared[:10]) + (" …" if len(unshared) > 10 else "")
            log.warning(
                f"routers = {count}: the workers of {names} were started by a version without room for a second router, and "
                "one serves alone: `emperor reload` them, then `emperor upgrade`"
            )
            return
    routers.become(count)
