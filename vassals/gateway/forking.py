"""From the gateway to a worker or a template: the fork, and what the child does before it is one.

Whatever the child inherits and must not have is let go of here; it never returns into the gateway's code.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NoReturn

from emperor.control.messages import GatewaySpec
from emperor.supervisor import process, signals
from vassals import atfork, bells, tracing

from .output import LogPipe
from .seats import EXIT_APP_FAILED, EXIT_LEFT

BOARD_FD = 5
"""The page that router and workers share."""

GATEWAY_SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Those that a gateway deals with in its own way, and its children in theirs."""


def fork(become: Callable[[], NoReturn]) -> int:
    """The pid of a child that runs `become`. Raises OSError."""
    # Until it has its own, a fork has our signals' wake-up descriptor, and would ring our bell.
    mask = signals.block_all()
    try:
        pid = os.fork()
        if pid == 0:
            become()
    finally:
        signals.set_mask(signals.SIG_SETMASK, mask)
    return pid


def become_worker(
    spec: GatewaySpec,
    number: int,
    gateway: int,
    leash: socket.socket,
    pipe: LogPipe,
    trace_fd: int,
    watches: bool,
    forget: Callable[[], None],
) -> NoReturn:
    """Be the worker of seat `number`. `gateway` is the pid of the one that we come from; `forget()` lets go of its sockets."""
    code = 1
    try:
        tracing.own(trace_fd)
        _leave_home(gateway, signal.SIGTERM)
        process.set_title(f"emperor worker {spec.title}.{spec.generation}/{number}")
        forget()
        _keep_only(pipe, leash.fileno(), bells.to_keep(spec, number))
        try:
            from vassals.worker.main import run_worker
        except Exception as error:
            # An interpreter of the operator's choice, with a package that is not whole.
            why = f"the worker's own code cannot be imported by {sys.executable}: {error}: install emperor-vassals"
            leash.sendall(json.dumps({"state": "failed", "reason": why}).encode() + b"\n")
            raise
        spec = spec if watches else replace(spec, code_s=0.0, watched=())
        run_worker(spec, number, BOARD_FD, leash, pipe.read_fd)
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
    except BaseException:
        print_traceback()
    finally:
        flush_streams()
        os._exit(code)


def become_template(
    spec: GatewaySpec,
    gateway: int,
    theirs: socket.socket,
    pipe: LogPipe,
    forget: Callable[[], None],
) -> NoReturn:
    """Be the template, at the end `theirs` of its socket; the others as of `become_worker`."""
    try:
        tracing.own(tracing.new_file())
        _leave_home(gateway, signal.SIGKILL)
        process.set_title(f"emperor template {spec.title}.{spec.generation}")
        forget()
        rings = range(bells.BELLS_FD, bells.BELLS_FD + bells.count(spec))
        _keep_only(pipe, theirs.fileno(), rings)
        from vassals.worker.template import run_template

        run_template(spec, BOARD_FD, theirs, gateway, _settle_worker)
    except BaseException:
        print_traceback()
    finally:
        flush_streams()
        os._exit(EXIT_APP_FAILED)


def _leave_home(gateway: int, death_signal: signal.Signals) -> None:
    """A session of its own, and no longer than the gateway lives. Does not return if that has ended already."""
    os.setsid()
    atfork.release()
    process.restore_signals(GATEWAY_SIGNALS)
    process.set_parent_death_signal(death_signal)
    if os.getppid() != gateway:  # it died before the line above
        os._exit(EXIT_LEFT)


def _keep_only(pipe: LogPipe, fd: int, rings: Iterable[int]) -> None:
    os.dup2(pipe.write_fd, 1)
    os.dup2(pipe.write_fd, 2)
    process.close_except((0, 1, 2, BOARD_FD, fd, pipe.read_fd, tracing.TRACE_FD, *rings))


def _settle_worker(title: str) -> None:
    process.set_parent_death_signal(signal.SIGTERM)
    process.set_title(title)


def print_traceback() -> None:
    import traceback

    with contextlib.suppress(Exception):
        traceback.print_exc()


def flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
