"""The spawner: a warm interpreter that turns into gateways.

Started by the emperor with descriptor 3, its end of a socketpair. It has imported what every gateway and
worker needs, and nothing that an operator configures, so that a vassal starts in milliseconds and shares
those pages with all others. It holds no state: at end of file it exits, and the emperor starts another at
any time. It is single-threaded and has no ZeroMQ context, since neither survives a fork.

It double-forks: the intermediate child reports the gateway's pid and ends, so that the emperor, a child
subreaper, becomes the gateway's parent and hears of its end, while the spawner may die and be replaced.
Every gateway holds the read end of a pipe whose write end only the spawner has: one that was started but
never met an emperor learns by it that nobody ever will.

What it imports is a list (`WARM`), because each line of it is memory that all gateways pay for as soon as
something touches it, and because an import that starts a thread would be lost in every fork.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import time
from typing import Any, NoReturn

from emperor.control.channel import Channel, ChannelClosed
from emperor.privileges import PrivilegeError, drop
from emperor.supervisor import process, signals

from . import atfork, bells, pages, tracing

CHANNEL_FD = 3

WARM = (
    "vassals.gateway.main",
    "vassals.worker.main",
)
"""Modules imported before the first fork."""

_stand_in: list[object] = []
"""What a fork lets go of when it becomes a gateway."""

GATEWAY_FDS = ("control", "spec", "board", "log")
"""The descriptors of a `spawn` message, in their order; behind them the generation's bells, if it has any."""


class _Refused(Exception):
    """The gateway cannot be started; the text says why and what to do."""


def main() -> NoReturn:
    """Serve the emperor at descriptor 3 until it hangs up."""
    atfork.hold()
    process.set_title("emperor spawner")
    signals.set_action(
        signal.SIGINT, signals.SIG_IGN
    )  # Ctrl-C is for the emperor, which ends us by hanging up
    os.set_inheritable(CHANNEL_FD, False)
    channel = Channel(socket.socket(fileno=CHANNEL_FD))
    warm(rehearsed=True)
    pages.keep()  # forks that have come to rest give back what is as it was
    liveness, _held_open = os.pipe()
    while True:
        try:
            message, fds = channel.receive_wait()
        except ChannelClosed:
            os._exit(0)
        answer: dict[str, Any] = {"re": message.get("id")}
        try:
            answer |= {"ok": True, "pid": _spawn(message, fds, channel, liveness)}
        except _Refused as refused:
            answer |= {"ok": False, "error": str(refused)}
        finally:
            for fd in fds:
                os.close(fd)
        if "id" in message:
            channel.send(answer)
            channel.flush_wait(10.0)


def warm(rehearsed: bool = False) -> None:
    """Import what every gateway and worker needs, before the first fork. `rehearsed`: and run it, for many forks' sake."""
    for name in WARM:
        __import__(name)
    tracing.register()
    # What a fork looks up would push out what was looked up here, name by name, each in a page of its own.
    pages.empty_methods_cache()
    if rehearsed:
        from . import rehearsal

        rehearsal.keep_still()
        rehearsal.rehearse()
    gc.collect()
    if rehearsed:
        rehearsal.fill_gaps()
    if process.is_alone():
        atfork.alone()
    gc.freeze()  # a collection in a fork would otherwise write to, and so copy, every page with an object
    if rehearsed:
        gc.disable()  # the youngest objects are to be these
        _stand_in.append(rehearsal.stand_in())


def let_go() -> None:
    """In a fork that is to be a gateway, of what stood in for it: it makes its own objects where those were."""
    _stand_in.clear()
    gc.enable()
    gc.collect(1)


def _spawn(message: dict[str, Any], fds: list[int], channel: Channel, liveness: int) -> int:
    """Start the gateway of a `spawn` message; its pid. Raises _Refused."""
    what = f"spawner: gateway {message.get('name')}.{message.get('generation')}"
    mode: Any = message.get("mode")
    argv: Any = message.get("argv")
    env: Any = message.get("env")
    if message.get("op") != "spawn":
        raise _Refused(
            f"spawner: there is no operation {message.get('op')!r}: is the emperor of another version?"
        )
    if len(fds) < len(GATEWAY_FDS):
        raise _Refused(f"{what}: {len(fds)} descriptors came, not {', '.join(GATEWAY_FDS)}")
    if mode not in ("fork", "exec") or not _is_env(env) or (mode == "exec" and not _is_argv(argv)):
        raise _Refused(
            f"{what}: mode must be fork or exec, env an object of strings, argv (exec) a list of strings"
        )
    who = message.get("uid"), message.get("gid")
    if not all(number is None or type(number) is int for number in who):
        raise _Refused(f"{what}: uid and gid must be numbers or null")
    read_end, write_end = os.pipe()
    try:
        child = os.fork()
    except OSError as error:
        os.close(read_end)
        os.close(write_end)
        raise _Refused(f"{what}: {_fork_failure(error)}") from None
    if child == 0:
        os.close(read_end)
        _be_intermediate(write_end, fds, channel, liveness, argv if mode == "exec" else None, env, who)
    os.close(write_end)
    # End of file comes when the gateway runs: it has closed, or exec has closed for it, its end of this pipe.
    report = b""
    while chunk := os.read(read_end, 4096):
        report += chunk
    os.close(read_end)
    os.waitpid(child, 0)
    # The gateway's own line, an error, may come before the intermediate child's.
    told = dict(line.split(" ", 1) for line in report.decode("utf-8", "replace").splitlines())
    if "error" in told:
        raise _Refused(f"{what}: {told['error']}")
    if "pid" not in told:
        raise _Refused(f"{what}: the process that should have become it died at once: is memory short?")
    return int(told["pid"])


def _be_intermediate(
    report: int,
    fds: list[int],
    channel: Channel,
    liveness: int,
    argv: list[str] | None,
    env: dict[str, str],
    who: tuple[int | None, int | None],
) -> NoReturn:
    try:
        child = os.fork()
    except OSError as error:
        os.write(report, f"error {_fork_failure(error)}\n".encode())
        os._exit(1)
    if child:
        os.write(report, f"pid {child}\n".encode())
        os._exit(0)
    _be_gateway(report, fds, channel, liveness, argv, env, who)


def _be_gateway(
    report: int,
    fds: list[int],
    channel: Channel,
    liveness: int,
    argv: list[str] | None,
    env: dict[str, str],
    who: tuple[int | None, int | None],
) -> NoReturn:
    try:
        os.setsid()
        process.restore_signals((signal.SIGINT,))
        channel.forget()  # its number, 3, is the control socket's from here on
        control, spec, board, log, *rings = fds
        null = os.open(os.devnull, os.O_RDONLY)
        report = process.place_fds(
            {
                0: null,
                1: log,
                2: log,
                3: control,
                4: spec,
                5: board,
                6: liveness,
                **{bells.BELLS_FD + index: fd for index, fd in enumerate(rings)},
            },
            keep=report,
        )
        if argv is not None:
            _exec(argv, env, report, who)
        os.close(report)
        for key in list(
            os.environ
        ):  # two views subtracted would ask abstract classes, whose caches nobody else touches
            if key not in env:
                del os.environ[key]
        for key, value in env.items():
            if os.environ.get(key) != value:
                os.environ[key] = value
        time.tzset()

        from vassals.gateway.main import run_gateway

        let_go()
        run_gateway()
    except BaseException:
        import traceback

        with contextlib.suppress(Exception):
            traceback.print_exc()
            sys.stderr.flush()
    finally:
        os._exit(70)


def _exec(argv: list[str], env: dict[str, str], report: int, who: tuple[int | None, int | None]) -> NoReturn:
    """Become another program as the vassal's user. The program may be a file of the tenant's, and what `env` sets makes
    any interpreter load the tenant's code before its first line of ours: root must be given up before, not by it."""
    try:
        drop(*who)
    except PrivilegeError as error:
        with contextlib.suppress(OSError):
            os.write(report, f"error {error}\n".encode())
        os._exit(127)
    try:
        os.execve(argv[0], argv, env)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.write(report, f"error cannot run {argv[0]!r}: {error.strerror}\n".encode())
        os._exit(127)


def _fork_failure(error: OSError) -> str:
    return f"cannot fork: {error.strerror} (a limit on processes: ulimit -u, TasksMax of the unit?)"


def _is_env(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _is_argv(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)


if __name__ == "__main__":
    main()
