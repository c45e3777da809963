"""`emperor reload`, `rollback`, `promote`, `pause`, `resume`: what an operator does to one vassal, or to the fleet."""

from __future__ import annotations

import os
import select
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import click

from emperor.cli.client import EXIT_FAILED, ask, connected, fail, find_control, no_place, which_emperor
from emperor.control.channel import Channel, ChannelClosed
from emperor.supervisor.rundir import run_root

OUTCOME_S = 86_400.0 * 2
"""The emperor ends a start by its start-timeout, and a probation by itself: this is for nobody's patience but that of a bug."""

WALKED = ("READY", "RELOADING", "ROLLING", "PROVING")


@click.command()
@click.argument("name", required=False, callback=no_place)
@which_emperor
@click.option("--wait", is_flag=True, help="Return when its outcome is known; exit code 1 if it failed.")
@click.option(
    "--all", "everything", is_flag=True, help="One after the other all that serve, each to its end."
)
@click.option(
    "--parallel", type=click.IntRange(1, 64), default=1, help="With --all: so many at the same time (1)."
)
@click.option("--keep-going", is_flag=True, help="With --all: go on after a failure.")
def reload(
    name: str | None,
    directory: str | None,
    run_dir: str | None,
    wait: bool,
    everything: bool,
    parallel: int,
    keep_going: bool,
) -> None:
    """Read the file of vassal NAME (or all files) again and start a new generation.

    The old one serves until the new one is ready, then finishes what it has begun. A vassal that was given
    up or is in back-off is started at once. An edit that waits (auto-reload) is in effect from then on.

    Without a NAME all are started at once, as with HUP. With --all they are taken one after the other, each until it is ready
    and its probation is over, and the first failure ends the walk.

    \b
    Examples:
      emperor reload blog
      emperor reload blog --wait && echo deployed
      emperor reload --all --parallel 4
      emperor reload
    """
    if everything and name is not None:
        raise click.UsageError("--all is about all: leave NAME out")
    if not everything and (parallel != 1 or keep_going):
        raise click.UsageError("--parallel and --keep-going are for --all")
    if everything:
        _reload_all(directory, run_dir, parallel, keep_going)
        return
    with connected(directory, run_dir) as channel:
        if not wait:
            names = ask(channel, {"op": "reload", "name": name})["reloaded"]
            click.echo(f"reloading {', '.join(names)}" if names else "there is nothing to reload")
            return
        if name is None:
            raise click.UsageError("--wait needs a NAME (or --all)")
        outcome = ask(channel, {"op": "reload", "name": name, "wait": True}, OUTCOME_S)["outcome"]
    if not outcome["ok"]:
        fail(f"{name}: {outcome['reason']}", EXIT_FAILED)
    click.echo(f"{name}: generation {outcome['generation']} is ready")


@click.command()
@click.argument("name", callback=no_place)
@which_emperor
def rollback(name: str, directory: str | None, run_dir: str | None) -> None:
    """Start vassal NAME from the reading of its file that had been ready before the one that serves.

    Nothing is written: the file stays as it is, and its next edit, or `emperor reload NAME`, is in effect again. During a
    probation the generation that is kept takes over at once. The emperor knows earlier readings for as long as it lives;
    code that the file only names is not its to bring back.

    \b
    Example:
      emperor rollback blog
    """
    with connected(directory, run_dir) as channel:
        done = ask(channel, {"op": "rollback", "name": name})
    click.echo(f"{done['name']}: {done['done']}")


@click.command()
@click.argument("name", callback=no_place)
@which_emperor
def promote(name: str, directory: str | None, run_dir: str | None) -> None:
    """Let the new generation of vassal NAME have all requests, when it has a part of them only (canary), or end its probation.

    `emperor rollback NAME` takes it back instead.

    \b
    Example:
      emperor promote blog
    """
    with connected(directory, run_dir) as channel:
        done = ask(channel, {"op": "promote", "name": name})
    click.echo(f"{done['name']}: {done['done']}")


@click.command()
@click.argument("name", callback=no_place)
@which_emperor
@click.option("--hold", is_flag=True, help="Let requests wait in its queue, up to queue-timeout.")
def pause(name: str, directory: str | None, run_dir: str | None, hold: bool) -> None:
    """Let no new request reach vassal NAME until `emperor resume NAME`.

    They are answered 503 with Retry-After, or with --hold wait in its queue as long as its queue-timeout says. What has begun
    is finished; its workers stay. It stays paused over reloads, and when another emperor takes over.

    \b
    Examples:
      emperor pause blog
      emperor pause blog --hold && ./migrate && emperor resume blog
    """
    with connected(directory, run_dir) as channel:
        done = ask(channel, {"op": "pause", "name": name, "hold": hold})
    click.echo(f"{done['name']} is paused: requests {'wait' if hold else 'are answered 503'}")


@click.command()
@click.argument("name", callback=no_place)
@which_emperor
def resume(name: str, directory: str | None, run_dir: str | None) -> None:
    """Serve the requests of vassal NAME again, after `emperor pause`.

    \b
    Example:
      emperor resume blog
    """
    with connected(directory, run_dir) as channel:
        done = ask(channel, {"op": "resume", "name": name})
    click.echo(f"{done['name']} is served again")


def _reload_all(directory: str | None, run_dir: str | None, parallel: int, keep_going: bool) -> None:
    with connected(directory, run_dir) as channel:
        vassals = ask(channel, {"op": "status"})["status"]["vassals"]
        names = [each["name"] for each in vassals if each["state"] in WALKED]
        for each in vassals:
            if each["state"] not in WALKED:
                click.echo(f"left out: {each['name']} is {each['state']}")
    address = find_control(directory, run_dir, run_root(os.geteuid(), dict(os.environ)))
    try:
        walk = Walk(names, lambda: Channel.connect(address), click.echo, parallel, keep_going)
        walk.run()
    except KeyboardInterrupt:
        fail("ended; what was being reloaded goes on", EXIT_FAILED)
    except OSError as error:
        fail(f"the emperor is gone: {error}", EXIT_FAILED)
    if walk.failed:
        fail(f"failed: {', '.join(walk.failed)}{walk.left_over()}", EXIT_FAILED)
    click.echo(f"{walk.done} reloaded" if names else "there is nothing to reload")


class Walk:
    """Reloads `names`, `parallel` at a time, over connections of its own; `say` gets a line for each outcome."""

    def __init__(
        self,
        names: list[str],
        connect: Callable[[], Channel],
        say: Callable[[str], Any],
        parallel: int,
        keep_going: bool,
    ) -> None:
        self._waiting = deque(names)
        self._count = len(names)
        self._connect = connect
        self._say = say
        self._parallel = parallel
        self._keep_going = keep_going
        self._busy: dict[int, tuple[Channel, str, float]] = {}
        self.failed: list[str] = []
        self.done = 0

    def run(self) -> None:
        """To the end, or to the first failure: what had been begun by then is waited for."""
        try:
            while self._busy or self._may_begin():
                while self._may_begin() and len(self._busy) < self._parallel:
                    self._begin(self._waiting.popleft())
                self._wait()
        finally:
            for channel, _, _ in self._busy.values():
                channel.close()

    def left_over(self) -> str:
        """What was not taken up, for people."""
        if not self._waiting:
            return ""
        return f"; {len(self._waiting)} not reloaded (--keep-going goes on): {', '.join(self._waiting)}"

    def _may_begin(self) -> bool:
        return bool(self._waiting) and (self._keep_going or not self.failed)

    def _begin(self, name: str) -> None:
        channel = self._connect()
        channel.send({"op": "reload", "name": name, "wait": True, "id": 1})
        self._busy[channel.fileno()] = (channel, name, time.monotonic())

    def _wait(self) -> None:
        poller = select.poll()
        for fd in self._busy:
            poller.register(fd, select.POLLIN)
        for fd, _ in poller.poll():
            channel, name, began = self._busy[fd]
            try:
                messages = [message for message, _ in channel.receive()]
            except ChannelClosed:
                messages = [{"ok": False, "error": "the emperor has hung up"}]
            if messages:
                del self._busy[fd]
                channel.close()
                self._ended(name, messages[0], time.monotonic() - began)

    def _ended(self, name: str, answer: dict[str, Any], took_s: float) -> None:
        outcome = answer.get("outcome") or {"ok": False, "reason": answer.get("error")}
        self.done += bool(outcome["ok"])
        if not outcome["ok"]:
            self.failed.append(name)
        said = (
            f"generation {outcome.get('generation')} is ready"
            if outcome["ok"]
            else f"failed: {outcome['reason']}"
        )
        self._say(f"[{self.done + len(self.failed)}/{self._count}] {name}: {said}, {took_s:.1f} s")
        sys.stdout.flush()
