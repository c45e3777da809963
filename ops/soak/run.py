"""Nothing is ever dropped: 500 requests a second through reloads, edits, failures and kills, and not one may fail.

    python ops/soak/run.py                 every act as often as promised: about ten minutes
    python ops/soak/run.py --share 0.1     a tenth of the acts, at least one of each: what `make test` does

The load is an open loop of fast requests, 200 ms ones, streams and uploads, on kept connections and on new ones. The acts
come in an order drawn from the seed, each begun when the one before has done what it had to. One vassal is served by workers
of another host as well, which is an emperor on other ports: it is killed, all of it, and started again. Then workers are
killed, one a second, and what one that was killed had begun, and nothing else, may be lost. At the end nothing may have
grown: descriptors, processes, shared memory, files, and what the emperor and the router hold in memory. Exit status 1 when
something failed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.scenarios.harness import (
    Fleet,
    Flood,
    Orphans,
    Target,
    begun_requests,
    fetch,
    take_census,
    wait_for,
)
from tests.scenarios.harness.fleet import is_ready
from tests.scenarios.harness.flood import Answer
from tests.scenarios.harness.ports import free_port
from tests.scenarios.harness.records import begun_twice

APP = Path(__file__).with_name("app.py")
RATE = 500.0
DEADLINE_S = 60.0
"""For what an act waits for: far longer than it takes, on a machine that has other things to do."""
GROWN_BYTES = 24 << 20
"""What the emperor or a router may hold more than after the first minute: pools that have seen their peak, no leak."""
SICK_REQUESTS = 400
KILLED_WITHIN_S = 1.0

VASSALS: dict[str, dict[str, object]] = {
    "shop": {"processes": 6},
    "rolls": {"processes": 3, "reload-style": "rolling"},
    "clinic": {"processes": 3, "ready-path": "/ready", "probation": "5s"},
    "shared": {"processes": 1},
}
"""The ones that the load goes to, by what they add to the app."""

QUERIES = (*[""] * 36, "&sleep=200", *["&size=40000&piece=8192&pause=5"] * 2)
"""Of forty requests one takes 200 ms and two are streams; one more is an upload. That keeps a third of the workers busy."""


FAR_WORKERS = 2
"""Of `shared`, on the other host."""


class OtherHost:
    """An emperor of its own, whose workers of `shared` serve the fleet's router as well."""

    def __init__(self, fleet: Fleet) -> None:
        self.front = fleet
        self.fleet = Fleet(fleet.orphans)
        self.door = f"tcp://127.0.0.1:{free_port()}"
        self._keys = {each: each.root / "keys" for each in (fleet, self.fleet)}
        public = {each: self._said(each, "new").strip() for each in self._keys}
        self._said(fleet, "allow", public[self.fleet], "shared")
        self._said(self.fleet, "allow", public[fleet], self.door)
        self.front_arguments = ("--backplane", self.door, "--keys-dir", str(self._keys[fleet]))

    def _said(self, fleet: Fleet, *arguments: object) -> str:
        done = fleet.cli("keys", *arguments, "--keys-dir", self._keys[fleet])
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self) -> None:
        self.fleet.start("--router", self.door, "--keys-dir", str(self._keys[self.fleet]), ready=False)

    def wait_serving(self) -> None:
        """The fleet's router has links to all of its workers, to which it may give requests."""

        def serving() -> bool:
            status = self.front.status_or_none() or {"routers": []}
            links = [
                each
                for router in status["routers"][:1]
                for each in router.get("apps", {}).get("shared", {}).get("links", ())
            ]
            return sum(bool(each["host"] and each["ready"]) for each in links) == FAR_WORKERS

        wait_for(serving, DEADLINE_S, lambda: f"{self.front.summary()}\n{self.fleet.log()[-3000:]}")

    def kill(self) -> list[int]:
        """kill -9 of all of it, the emperor first: nobody starts anything again. Returns the pids of its workers."""
        pids = self.fleet.pids()
        workers = [int(each["pid"]) for each in self.fleet.vassal_status("shared")["workers"] if each["pid"]]
        self.fleet.kill_emperor()
        for pid in {*pids.values(), *workers} - {0}:  # 0: there is none
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not any(map(psutil.pid_exists, workers)), DEADLINE_S, lambda: f"{workers} are there")
        return workers


@dataclass
class Soak:
    """A fleet under load, and what was done to it."""

    fleet: Fleet
    chance: random.Random
    flags: Path
    other: OtherHost
    edits: int = 0
    done: Counter[str] = field(default_factory=Counter)
    kills: list[tuple[float, int]] = field(default_factory=list)

    def write(self, name: str, **more: object) -> None:
        """The vassal's file, unlike what it was before."""
        self.edits += 1
        self._write(self.fleet, name, f"EDIT={self.edits}", **{**VASSALS[name], **more})

    def write_far(self) -> None:
        self._write(self.other.fleet, "shared", "IMPORT_MS=10", processes=FAR_WORKERS)

    def _write(self, fleet: Fleet, name: str, variable: str, **keys: object) -> None:
        env = [f"NONCE_LOG={self.fleet.nonce_log(name)}", f"SOAK_FLAGS={self.flags}", variable]
        # Each request is run once: what a dead worker had begun is what may fail.
        fleet.vassal(name, **{"wsgi-file": APP, "env": env, "retries": "false", **keys})

    def generation(self, name: str) -> int:
        return int(self.fleet.vassal_status(name).get("generation", 0))

    def await_vassal(self, name: str, told: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """Its part of the status, once that is as told."""

        def found() -> dict[str, Any] | None:
            vassal = self.fleet.vassal_status(name)
            return vassal if vassal and told(vassal) else None

        vassal = wait_for(
            found, DEADLINE_S, lambda: f"{what}; {self.fleet.summary()}\n{self.fleet.log()[-3000:]}"
        )
        assert vassal is not None
        return vassal

    def await_next(self, name: str, before: int) -> None:
        """A generation after this one serves, and nothing else of the vassal is there."""
        self.await_vassal(
            name, lambda v: is_ready(v) and v["generation"] > before, f"{name} after generation {before}"
        )

    def ask(self, *arguments: object) -> None:
        result = self.fleet.cli(*arguments, "--run-dir", self.fleet.run_dir, deadline_s=DEADLINE_S)
        assert result.returncode == 0, f"emperor {' '.join(map(str, arguments))}: {result.stderr}"


# Acts


def reload(soak: Soak) -> None:
    before = soak.generation("shop")
    soak.ask("reload", "shop")
    soak.await_next("shop", before)


def roll(soak: Soak) -> None:
    before = soak.generation("rolls")
    soak.ask("reload", "rolls")
    soak.await_next("rolls", before)


def edit(soak: Soak) -> None:
    before = soak.generation("shop")
    soak.write("shop")
    soak.await_next("shop", before)


def edit_badly(soak: Soak) -> None:
    """A key that does not exist, or an app: the old generation serves on, and the status says why."""
    path = soak.fleet.directory / "shop.ini"
    good, before = path.read_text(), soak.generation("shop")
    wrong = soak.chance.choice(["no-such-option = 1\n", "wsgi-file = /nowhere/wsgi.py\n"])
    path.write_text(good + wrong)
    vassal = soak.await_vassal("shop", lambda v: bool(v["problem"]), "the problem of the bad edit")
    assert (vassal["generation"], vassal["state"]) == (before, "READY"), vassal
    path.write_text(good)
    soak.await_next("shop", before)


def fail_readiness(soak: Soak) -> None:
    flag, before = soak.flags / "unready", soak.generation("clinic")
    flag.touch()
    soak.ask("reload", "clinic")
    vassal = soak.await_vassal(
        "clinic", lambda v: v["state"] == "READY" and "/ready" in v["problem"], "readiness to fail"
    )
    assert vassal["generation"] == before, vassal
    flag.unlink()
    soak.ask("reload", "clinic")
    soak.await_next("clinic", before)


def fail_probation(soak: Soak) -> None:
    """The new generation answers 5xx on one path: the one before takes over again."""
    settled(soak, "clinic")
    before, flag = soak.generation("clinic"), soak.flags / "sick"
    flag.touch()
    soak.ask("reload", "clinic")
    soak.await_vassal("clinic", lambda v: v["state"] == "PROVING" and v["generation"] > before, "a probation")
    flag.unlink()
    for _ in range(SICK_REQUESTS):
        fetch(soak.fleet.http_port, "clinic.localhost", "/sick")
        if soak.generation("clinic") == before:
            break
    soak.await_vassal(
        "clinic", lambda v: v["generation"] == before and is_ready(v), "the one before to take over"
    )
    assert fetch(soak.fleet.http_port, "clinic.localhost", "/sick").status == 200
    soak.ask("reload", "clinic")
    soak.await_next("clinic", before + 1)


def settled(soak: Soak, name: str) -> None:
    """No probation goes on."""
    soak.await_vassal(name, is_ready, f"{name} to settle")


def kill_emperor(soak: Soak) -> None:
    soak.fleet.kill_emperor()
    soak.fleet.start(*soak.other.front_arguments, ready=False)
    soak.fleet.wait_ready(*VASSALS, deadline_s=DEADLINE_S)


def upgrade(soak: Soak) -> None:
    """The emperor becomes another of itself, and another router takes the router's place: whatever goes on, goes on."""
    before, pid, router = (
        soak.fleet.status()["emperor"]["upgrades"],
        soak.fleet.pid("emperor"),
        soak.fleet.pid("router"),
    )
    soak.ask("upgrade")
    emperor = soak.fleet.status()["emperor"]
    assert (emperor["upgrades"], emperor["pid"]) == (before + 1, pid), emperor
    assert soak.fleet.pid("router") != router, "the router was to be replaced"


def replace_router(soak: Soak) -> None:
    before = soak.fleet.pid("router")
    soak.ask("upgrade", "--router-only")
    assert soak.fleet.pid("router") != before, "the router was to be replaced"


def kill_spawner(soak: Soak) -> None:
    before = soak.fleet.pid("spawner")
    os.kill(before, signal.SIGKILL)
    wait_for(
        lambda: (soak.fleet.status()["spawner"]["pid"] or before) != before, DEADLINE_S, soak.fleet.summary
    )


def kill_gateway(soak: Soak) -> None:
    before = soak.generation("shop")
    os.kill(soak.fleet.pid("gateway", "shop"), signal.SIGKILL)
    soak.await_next("shop", before)


def kill_other_host(soak: Soak) -> None:
    """All of it at once. What its workers had begun may fail; the fleet's own go on, and it comes back."""
    soak.other.wait_serving()
    at = time.monotonic()
    soak.kills += [(at, pid) for pid in soak.other.kill()]
    soak.other.start()
    soak.other.wait_serving()


ANSWERS_S = 120.0
"""How long the client may take to hand in its answers: where it had no time, it is behind its schedule by then."""

ACTS: dict[str, tuple[int, Callable[[Soak], None]]] = {
    "reload": (100, reload),
    "rolling reload": (20, roll),
    "edit": (20, edit),
    "bad edit": (20, edit_badly),
    "failed readiness": (10, fail_readiness),
    "failed probation": (5, fail_probation),
    "upgrade": (5, upgrade),
    "router replaced": (5, replace_router),
    "kill -9 of the emperor": (5, kill_emperor),
    "kill -9 of the spawner": (5, kill_spawner),
    "kill -9 of the gateway": (5, kill_gateway),
    "kill -9 of the other host": (5, kill_other_host),
}
"""What is done, how often in a whole soak, and how."""

KILLS = 60
"""Of workers, one a second, behind the acts of a whole soak."""


def plan(share: float, chance: random.Random) -> list[str]:
    """The acts in their order. What dies twice within ten seconds is held back on purpose: kills of one thing stand apart."""
    acts = [name for name, (count, _) in ACTS.items() for _ in range(max(1, round(count * share)))]
    kills = [name for name in acts if name.startswith("kill")]
    others = [name for name in acts if not name.startswith("kill")]
    chance.shuffle(others)
    chance.shuffle(kills)
    each = len(others) / max(1, len(kills))
    for number, name in enumerate(kills):
        others.insert(round(number * (each + 1)), name)
    return others


def kill_workers(soak: Soak, count: int) -> None:
    """One a second, whichever: what it had begun may fail."""
    several = [name for name, keys in VASSALS.items() if keys["processes"] != 1]
    for number in range(count):
        began = time.monotonic()
        name = several[number % len(several)]
        vassal = soak.fleet.vassal_status(name)
        ready = [worker for worker in vassal["workers"] if worker["state"] == "ready"]
        if len(ready) > 1:
            pid = int(soak.chance.choice(ready)["pid"])
            soak.kills.append((time.monotonic(), pid))
            os.kill(pid, signal.SIGKILL)
            soak.done["kill -9 of a worker"] += 1
        time.sleep(max(0.0, began + 1 - time.monotonic()))
    for name in VASSALS:
        settled(soak, name)


def excused(answer: Answer, soak: Soak, begun: dict[str, int]) -> bool:
    """It was under way in a worker that was killed: one that had written it down, or had just taken it up."""
    if answer.outcome not in ("502", "lost"):
        return False
    pid = begun.get(answer.nonce, 0)
    return any(
        pid in (killed, 0) and at_s <= answer.done_s <= at_s + KILLED_WITHIN_S + answer.latency_ms / 1000
        for at_s, killed in soak.kills
    )


def memory(fleet: Fleet) -> dict[str, int]:
    """What the long-lived processes hold, in bytes."""
    roles = ("emperor", "router")
    return {role: psutil.Process(fleet.pid(role)).memory_info().rss for role in roles}


def run(fleet: Fleet, share: float, seed: int, say: Callable[[str], None] = print) -> list[str]:
    """The whole soak on this fleet. Returns what was wrong: nothing, if all is well."""
    other = OtherHost(fleet)
    try:
        return _run(Soak(fleet, random.Random(seed), fleet.root / "flags", other), share, seed, say)
    finally:
        other.fleet.close()


def _run(soak: Soak, share: float, seed: int, say: Callable[[str], None]) -> list[str]:
    fleet, chance = soak.fleet, soak.chance
    soak.flags.mkdir()
    for name in VASSALS:
        soak.write(name)
    soak.write_far()
    fleet.start(*soak.other.front_arguments, ready=False)
    soak.other.start()
    fleet.wait_ready(*VASSALS, deadline_s=DEADLINE_S)
    soak.other.wait_serving()
    before = take_census(fleet)
    targets = [
        Target(name, query, closes=closes)
        for query in QUERIES
        for closes in (False, False, True)
        for name in ("shop", "shop", "rolls", "clinic", "shared")
    ]
    targets += [Target(name, body_bytes=20_000) for name in VASSALS for _ in range(4)]
    chance.shuffle(targets)
    flood = Flood(fleet.orphans, fleet.http_port, targets, fleet.root / "answers", RATE, "soak")
    flood.start()
    began = time.monotonic()
    acts = plan(share, chance)
    held: dict[str, int] = {}
    wrong: list[str] = []
    name = ""
    try:
        for number, name in enumerate(acts):
            at = time.monotonic()
            ACTS[name][1](soak)
            soak.done[name] += 1
            say(f"{at - began:6.1f} s  {name}: {time.monotonic() - at:.1f} s")
            if number == len(acts) // 4:
                held = memory(fleet)
        grown = {role: size - held.get(role, size) for role, size in memory(fleet).items()}
        kill_workers(soak, max(5, round(KILLS * share)))
    except (AssertionError, OSError) as error:
        wrong.append(f"{name} did not do what it had to: {error!r}")
        grown = {}
    answers = flood.stop(ANSWERS_S)
    failed = [answer for answer in answers if not answer.ok]
    begun = [entry for name in VASSALS for entry in begun_requests(fleet.nonce_log(name))]
    twice = begun_twice(begun)
    by_nonce = {entry.nonce: entry.pid for entry in begun}
    unexcused = [answer for answer in failed if not excused(answer, soak, by_nonce)]
    wrong += [f"failed: {answer.outcome} of {answer}" for answer in unexcused[:20]]
    wrong += [f"begun more than once: {nonce}" for nonce in list(twice)[:20]]
    wrong += [f"{role} grew by {size >> 20} MiB" for role, size in grown.items() if size > GROWN_BYTES]
    try:
        wait_for(lambda: not take_census(fleet).grown_since(before), 30, "nothing to have grown", every_s=0.5)
    except AssertionError:
        wrong += [f"grown: {what}" for what in take_census(fleet).grown_since(before)]
    took_s = time.monotonic() - began
    say(
        f"{len(answers)} requests in {took_s:.0f} s, {len(failed)} failed, "
        f"{len(failed) - len(unexcused)} of them in killed workers"
    )
    say(json.dumps({"acts": soak.done, "grown_bytes": grown, "seed": seed}))
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--share", type=float, default=1.0, help="of the acts of a whole soak")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    orphans = Orphans()
    orphans.start()
    fleet = Fleet(orphans)
    try:
        wrong = run(fleet, arguments.share, arguments.seed)
        if wrong:
            kept = Path("build") / "soak-emperor.log"
            kept.parent.mkdir(exist_ok=True)
            kept.write_text(fleet.log())
            print(*wrong, f"the emperor's log is {kept}", sep="\n", file=sys.stderr)
    finally:
        fleet.close()
        orphans.close()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
