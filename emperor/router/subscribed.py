"""Apps of hosts that no vassal has, for as long as somebody has subscribed to them, and a minute longer.

A node that is restarted unsubscribes and comes back: until then its host is known and not there, which is 503 and not 404.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from emperor.config import options
from emperor.config.balancing import Balancing
from emperor.config.upstreams import Upstreams
from emperor.control.messages import RouterEntry
from emperor.router.subscriptions import Node

if TYPE_CHECKING:
    from emperor.router.app import App

KNOWN_S: Final = 60.0
"""How long a host is known after its last node has gone."""

SOURCE: Final = "subscription"
"""Of its upstreams, among those of an app."""

_LIMITS: Final = {
    "queue": "queue",
    "queue_timeout_s": "queue-timeout",
    "request_timeout_s": "request-timeout",
    "body_limit": "body-limit",
    "post_buffering": "post-buffering",
    "response_buffer": "response-buffer",
}


_BALANCING: Final = Balancing(retries=options.NAMES["retries"].default)


class Joined:
    """The upstreams of one app, as far as they are nodes that have subscribed."""

    def __init__(self, app: App) -> None:
        self.app = app

    def join(self, node: Node) -> None:
        """Have this one, or what is new of it: its load, with each of its packets."""
        upstreams = self.app.forward().upstreams
        found = upstreams.add(
            f"uwsgi://{node.address}",
            weight=node.weight,
            backup=node.backup > 0,
            modifier1=node.modifier1,
            modifier2=node.modifier2,
            source=SOURCE,
        )
        if found.source == SOURCE:
            upstreams.tell(found, node.cores, node.load)
        self.app.dispatch()

    def leave(self, node: Node) -> None:
        """Choose it no more; what it has it finishes."""
        self.app.forward().upstreams.remove(f"uwsgi://{node.address}", SOURCE)


class SubscribedApps:
    """`make` makes an app of an entry; `changed`: there are other hosts now."""

    def __init__(
        self, make: Callable[[RouterEntry], App], clock: Callable[[], float], changed: Callable[[], None]
    ) -> None:
        self._make = make
        self._clock = clock
        self._changed = changed
        self._apps: dict[str, App] = {}
        self._until: dict[str, float] = {}  # of those without a node
        self._hidden: set[str] = set()

    def __iter__(self) -> Iterator[App]:
        return iter(list(self._apps.values()))

    def routes(self) -> list[tuple[str, App]]:
        """Hosts and their apps."""
        return [(host, app) for host, app in self._apps.items() if host not in self._hidden]

    def place(self, host: str) -> Joined:
        """The app of this host, which is made if it is not there."""
        app = self._apps.get(host)
        if app is None:
            app = self._apps[host] = self._make(entry_of(host))
            self._changed()
        elif self._until.pop(host, None) is not None:
            hidden = host in self._hidden
            self._hidden.discard(host)
            app.set_entry(entry_of(host))
            if hidden:
                self._changed()
        return Joined(app)

    def displace(self, host: str, hide: bool) -> None:
        """It has no node any more; `hide`: and a vassal has its host."""
        app = self._apps.get(host)
        if app is None:
            return
        self._until[host] = self._clock() + (0.0 if hide else KNOWN_S)
        if hide:
            self._hidden.add(host)
        reason = "nobody subscribes to it any more"
        app.set_entry(replace(entry_of(host), available=False, reason=reason))

    def sweep(self, now: float) -> None:
        """Deadlines of all, and who is forgotten: not before the last request is answered."""
        for host, app in list(self._apps.items()):
            app.sweep(now)
            if now > self._until.get(host, now) and not app.forward().attempts:
                self._until.pop(host, None)
                self._hidden.discard(host)
                del self._apps[host]
                self._changed()
                app.close()

    def close(self) -> None:
        """The router ends."""
        for app in self:
            app.close()
        self._apps.clear()


def entry_of(host: str) -> RouterEntry:
    """The entry of a host that has no vassal: what a file would come to that says `subscriptions = true` and nothing else."""
    limits = {name: options.NAMES[option].default for name, option in _LIMITS.items()}
    return RouterEntry(
        name=host,
        domains=(host,),
        available=True,
        balancing=_BALANCING,
        upstreams=Upstreams(subscriptions=True),
        **limits,
    )
