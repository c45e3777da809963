"""`emperor trace`: what the workers of a vassal are doing, asked of those who know.

Each gateway has its workers show their stacks; the router knows which requests they run. Neither is waited for longer than
`ANSWER_S`: a trace is asked for when something hangs, and what hangs may be one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from emperor.supervisor.fleet import Generation, Phase, Vassal
from emperor.supervisor.gateways import Gateways
from emperor.supervisor.loop import Loop
from emperor.supervisor.routers import Router

ANSWER_S: Final = 5.0
MOST_LINES: Final = 5000
MOST_REQUESTS: Final = 1000
LINE_CHARS: Final = 2000

UPSTREAMS: Final = "upstreams"
REMOTE: Final = "remote"

_Found = dict[str, Any]


def look(
    vassal: Vassal,
    gateways: Gateways,
    routers: Sequence[Router],
    loop: Loop,
    done: Callable[[_Found], None],
) -> None:
    """Begin a trace of all generations of a vassal that have processes here, and of its upstreams."""
    running = [
        each
        for each in vassal.generations.values()
        if each.phase is not Phase.QUEUED and not each.reading.elsewhere
    ]
    elsewhere = ""
    if vassal.current is not None and vassal.current.reading.elsewhere:
        elsewhere = UPSTREAMS if vassal.current.reading.upstreams else REMOTE
    running.sort(key=lambda each: each.number)
    Look(vassal.name, running, gateways, routers, loop, done, elsewhere)


class Look:
    """One trace. `done` is called once, with ``{"workers": […], "upstreams": […], "elsewhere": text, "missing": [text]}``.
    ``elsewhere``: who answers, where nothing of the vassal runs here (`UPSTREAMS`, `REMOTE`); then no gateway is asked."""

    def __init__(
        self,
        name: str,
        generations: Sequence[Generation],
        gateways: Gateways,
        routers: Sequence[Router],
        loop: Loop,
        done: Callable[[_Found], None],
        elsewhere: str = "",
    ) -> None:
        self._name = name
        self._elsewhere = elsewhere
        self._upstreams: dict[str, _Found] = {}
        self._done: Callable[[_Found], None] | None = done
        self._workers: list[_Found] = []
        self._running: list[Any] = []
        self._awaited: dict[str, None] = {}
        self._missing: list[str] = []
        self._timer = loop.call_later(ANSWER_S, self._late)
        for generation in generations:
            who = f"the gateway of generation {generation.number}"
            self._ask(who, partial(gateways.ask, generation, {"op": "trace"}), self._shown, generation.number)
        for router in routers:
            # What runs is of any of them.
            who = f"router {router.seat}" if len(routers) > 1 else "the router"
            self._ask(who, partial(router.ask, {"op": "running", "name": name}), self._told, 0)
        self._finish_if_whole()

    def _ask(
        self,
        who: str,
        ask: Callable[[Callable[[_Found], None]], bool],
        take: Callable[[_Found, int], None],
        number: int,
    ) -> None:
        def answered(answer: _Found) -> None:
            if self._awaited.pop(who, self) is None:
                if answer.get("ok") is True:
                    take(answer, number)
                else:
                    self._missing.append(f"{who} cannot say: {str(answer.get('error'))[:LINE_CHARS]}")
                self._finish_if_whole()

        self._awaited[who] = None
        if not ask(answered):
            del self._awaited[who]
            self._missing.append(f"{who} cannot be asked now: it is being started, or taken over")

    def _shown(self, answer: _Found, generation: int) -> None:
        """Its process is the tenant's: what it says is text, and no more of it than can be shown."""
        workers = answer.get("workers")
        for each in workers if isinstance(workers, list) else []:
            match each:
                case {"seat": int(seat), "pid": int(pid), "state": str(state), "stacks": list(stacks)}:
                    lines = [line[:LINE_CHARS] for line in stacks[:MOST_LINES] if isinstance(line, str)]
                    mute = each.get("mute")
                    self._workers.append(
                        {
                            "generation": generation,
                            "seat": seat,
                            "pid": pid,
                            "state": state[:20],
                            "stacks": lines,
                            "mute": mute[:LINE_CHARS] if isinstance(mute, str) else "",
                        }
                    )

    def _told(self, answer: _Found, _number: int) -> None:
        running = answer.get("running")
        self._running += running[:MOST_REQUESTS] if isinstance(running, list) else []
        for each in answer.get("upstreams", ()):
            # Of two routers the first is the one that lets clients in: what it says of the upstream itself counts.
            known = self._upstreams.setdefault(f"{each['address']} {each['ip']}", {**each, "now": []})
            known["now"] += each["now"]

    def _late(self) -> None:
        self._missing += [f"{who} has not answered within {ANSWER_S:g} s" for who in self._awaited]
        self._awaited.clear()
        self._finish_if_whole()

    def _finish_if_whole(self) -> None:
        done = self._done
        if self._awaited or done is None:
            return
        self._done = None
        self._timer.cancel()
        for worker in self._workers:
            keys = ("generation", "seat", "pid")
            worker["requests"] = [
                {"request": each["request"], "ran_ms": each["ran_ms"], "wanted": each["wanted"]}
                for each in self._running
                if all(each[key] == worker[key] for key in keys)
            ]
        self._workers.sort(key=lambda worker: (worker["generation"], worker["seat"]))
        done(
            {
                "name": self._name,
                "workers": self._workers,
                "upstreams": list(self._upstreams.values()),
                "elsewhere": self._elsewhere,
                "missing": self._missing,
            }
        )
