"""`emperor status`, `reopen-logs` and `stop`: one question to a running emperor each. How it is found and asked."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from emperor.control.channel import AskAgain, Channel, ChannelClosed, ControlError
from emperor.supervisor.rundir import RunDir, control_of, derived, holder_of, run_root

EXIT_FAILED = 1
EXIT_NO_EMPEROR = 3
ANSWER_S = 10.0
STOP_S = 15.0
AGAIN = 3

_Verb = TypeVar("_Verb", bound=Callable[..., Any])


def which_emperor(verb: _Verb) -> _Verb:
    """The two ways to say which emperor is meant; with one running, neither is needed."""
    for option in (
        click.option("--run-dir", type=click.Path(file_okay=False), help="The emperor's run directory."),
        click.option(
            "-d",
            "--dir",
            "directory",
            type=click.Path(file_okay=False),
            help="The emperor's vassal directory, or one of several.",
        ),
    ):
        verb = option(verb)
    return verb


def of_place(verb: _Verb) -> _Verb:
    """The third way, for verbs that take no other argument: what `emperor start` was given. Stands above `which_emperor`."""

    @wraps(verb)
    def of(place: str | None, directory: str | None, run_dir: str | None, **rest: Any) -> Any:
        if place is not None:
            if directory is not None or run_dir is not None:
                raise click.UsageError("PLACE says which emperor is meant: leave --dir and --run-dir out")
            directory, run_dir = _meant_by(place)
        return verb(directory=directory, run_dir=run_dir, **rest)

    return click.argument("place", required=False, metavar="[PLACE]")(of)  # type: ignore[return-value]


def _meant_by(place: str) -> tuple[str | None, str | None]:
    """`(directory, run directory)`, of which one is None. Ends the command where it is neither, or could be both."""
    if os.path.isdir(place):
        inside = RunDir(place).control
        if not os.path.exists(inside):
            return place, None
        served = find_control(place, None, run_root(os.geteuid(), dict(os.environ)))
        if os.path.exists(served) and not os.path.samefile(served, inside):
            raise click.UsageError(
                f"{place} is the run directory of one emperor, and another serves what is in it: say which one by "
                "--run-dir or --dir"
            )
        return None, place
    if any(sign in place for sign in "*?["):
        return place, None
    raise click.UsageError(
        f"there is no directory {place!r}: PLACE is what `emperor start` was given, or a run directory, and not needed while "
        "one emperor runs (`emperor status` shows all vassals, `emperor trace NAME` one)"
    )


def no_place(_context: click.Context, _parameter: click.Parameter, name: str | None) -> str | None:
    """The callback of an argument NAME: no vassal's name has a slash, so that is a place."""
    if name is not None and ("/" in name or name in (".", "..")):
        raise click.UsageError(f"{name} is no vassal's name: --dir {name} says which emperor is meant")
    return name


@click.command()
@of_place
@which_emperor
@click.option("--json", "as_json", is_flag=True, help="Print the whole statistics document.")
def status(directory: str | None, run_dir: str | None, as_json: bool) -> None:
    """Show what every vassal is doing, and why.

    Of several emperors PLACE says which one: what it was started with, or its run directory.

    \b
    Examples:
      emperor status
      emperor status /etc/vassals
      emperor status --json | jq .vassals[].state
    """
    with connected(directory, run_dir) as channel:
        document = ask(channel, {"op": "status"})["status"]
    if as_json:
        click.echo(json.dumps(document, indent=1))
    else:
        from emperor.cli.table import show

        show(document)


@click.command(name="reopen-logs")
@of_place
@which_emperor
def reopen_logs(directory: str | None, run_dir: str | None) -> None:
    """Open every log file by its name again, after what had the name was moved away. (So does SIGUSR1.)

    \b
    Example, in a configuration of logrotate:
      postrotate
        emperor reopen-logs
      endscript
    """
    with connected(directory, run_dir) as channel:
        names = ask(channel, {"op": "reopen-logs"})["reopened"]
    click.echo(f"access logs of {', '.join(names)} are opened anew" if names else "there is no access log")


@click.command()
@of_place
@which_emperor
@click.option("--no-wait", is_flag=True, help="Return at once.")
def stop(directory: str | None, run_dir: str | None, no_wait: bool) -> None:
    """Let the emperor finish what has begun, and end: within 8 seconds.

    \b
    Examples:
      emperor stop
      emperor stop /etc/vassals
      emperor stop --run-dir /run/emperor/vassals-1b2c3d4e
    """
    with connected(directory, run_dir) as channel:
        pid = channel.peer()[0]
        pidfd = _pidfd(pid)
        ask(channel, {"op": "stop", "wait": not no_wait})
        if no_wait:
            click.echo(f"the emperor (pid {pid}) is stopping")
            return
        ended = _wait_end(pidfd, channel)
        if pidfd is not None:
            os.close(pidfd)
    if not ended:
        fail(f"the emperor (pid {pid}) has not ended within {STOP_S:g} s: see its log", EXIT_FAILED)
    click.echo(f"the emperor (pid {pid}) has stopped")


def find_control(directory: str | None, run_dir: str | None, root: Path) -> str:
    """The path of the control socket of the emperor that is meant. Raises LookupError, saying what there
    is."""
    if run_dir is not None:
        return RunDir(run_dir).control
    if directory is not None:
        own = RunDir(str(derived(root, Path(directory)))).control
        if os.path.exists(own):
            return own
        return _control_of(os.path.abspath(directory), root) or _control_elsewhere(directory) or own
    found = [path for path in sorted(root.glob("*/control.sock")) if _answers(path)]
    if len(found) == 1:
        return str(found[0])
    if not found:
        raise LookupError(f"no emperor is running under {root}: name its --dir, or its --run-dir")
    listed = ", ".join(str(path.parent) for path in found)
    raise LookupError(f"several emperors are running: name one by --dir or --run-dir: {listed}")


def _control_of(directory: str, root: Path) -> str | None:
    """The control socket of a living emperor that serves `directory` among others, or by another path."""
    for control in sorted(root.glob("*/control.sock")):
        with contextlib.suppress(OSError):
            served = Path(RunDir(str(control.parent)).places).read_text().splitlines()
            named = {directory, os.path.realpath(directory)}
            if named & {path for each in served for path in (each, os.path.realpath(each))} and _answers(
                control
            ):
                return str(control)
    return None


def _control_elsewhere(directory: str) -> str | None:
    """The same of one that was started with a --run-dir of its own: who it is says its lock on the directory."""
    holder = holder_of(directory)
    found = None if holder is None else control_of(holder)
    return found if found is not None and os.path.exists(found) else None


@contextlib.contextmanager
def connected(directory: str | None, run_dir: str | None) -> Any:
    """A channel to the emperor that is meant; without one the command ends, and says why."""
    try:
        path = find_control(directory, run_dir, run_root(os.geteuid(), dict(os.environ)))
        channel = Channel.connect(path)
    except LookupError as error:
        fail(str(error.args[0]), EXIT_NO_EMPEROR)
    except PermissionError as error:
        fail(f"{error.filename}: only root and the emperor's own user may ask it", EXIT_FAILED)
    except OSError as error:
        why = f"{error.filename}: {error.strerror}"
        holder = holder_of(directory) if directory is not None else None
        if holder is not None:
            fail(
                f"the emperor with pid {holder} serves {directory}, but cannot be asked: {why}: its run directory has "
                "vanished, or is another (--run-dir); its log says which, and why it cannot be made again",
                EXIT_NO_EMPEROR,
            )
        fail(f"no emperor is running: {why}", EXIT_NO_EMPEROR)
    try:
        yield channel
    finally:
        channel.close()


def ask(channel: Channel, message: dict[str, Any], timeout_s: float = ANSWER_S) -> dict[str, Any]:
    """The answer; a refusal, or none, ends the command with the reason. An emperor that becomes another version at this
    moment is asked again."""
    try:
        for _ in range(AGAIN):
            with contextlib.suppress(AskAgain):
                return channel.request(message, timeout_s=timeout_s)[0]
        answer, _ = channel.request(message, timeout_s=timeout_s)
    except ControlError as error:
        fail(error.reason, EXIT_FAILED)
    except (ChannelClosed, TimeoutError) as error:
        fail(f"the emperor did not answer: {error}", EXIT_FAILED)
    return answer


def _answers(path: Path) -> bool:
    try:
        Channel.connect(str(path)).close()
    except OSError:
        return False
    return True


def _pidfd(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        return os.pidfd_open(pid)
    return None


def _wait_end(pidfd: int | None, channel: Channel) -> bool:
    """True once the emperor's process has ended (where its pid cannot be seen: has hung up)."""
    poller = select.poll()
    poller.register(channel.fileno() if pidfd is None else pidfd, select.POLLIN)
    deadline = time.monotonic() + STOP_S
    while (left := deadline - time.monotonic()) > 0:
        if not poller.poll(left * 1000):
            continue
        if pidfd is not None:
            return True
        try:
            channel.receive()
        except ChannelClosed:
            return True
    return False


def fail(text: str, code: int) -> Any:
    """End the command with a line on standard error."""
    click.echo(f"emperor: {text}", err=True)
    sys.exit(code)
