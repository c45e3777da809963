"""Holds back what libraries want done at every fork, until a process that uses those libraries forks or is
forked.

The spawner imports ZeroMQ for the workers' sake, and with it come threading, logging and random, which each
register calls for every fork. A gateway uses none of them, but their calls write to pages that it would
otherwise share with the spawner: some 400 KB in every gateway on the machine. So the spawner registers
these calls here, a gateway does not run them, and each worker runs them once (`release`), after
which they run at each of its own forks as they always would.

Some only make locks anew, since a thread that is not in the fork may have held them. Where there was no other thread (`alone`)
there is nothing to make anew, and a worker need not run these for the fork that made it: another 400 KB of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

Call = Callable[[], Any]

_register = os.register_at_fork
_before: list[Call] = []
_in_parent: list[Call] = []
_in_child: list[Call] = []
_released = True
_alone = False

_LOCKS = frozenset((("threading", "_after_fork"), ("logging", "_after_at_fork_child_reinit_locks")))
"""Module and name of those that do nothing after the fork of a process that has no other thread."""


def hold() -> None:
    """Hold back what is registered from now on. Call it before the imports, in a process that will only
    fork gateways."""
    global _released
    _released = False
    os.register_at_fork = _hold_one
    _register(before=_run_before, after_in_parent=_run_in_parent, after_in_child=_run_in_child)


def alone() -> None:
    """Say that this process has only the thread that it forks in, and that its forks will have no other until `release`."""
    global _alone
    _alone = True


def release() -> None:
    """In a fork that is to be an ordinary process: do what this fork has missed, and hold back nothing
    more."""
    global _released
    if _released:
        return
    _released = True
    os.register_at_fork = _register
    for call in _in_child:
        if not (_alone and (call.__module__, call.__qualname__) in _LOCKS):
            call()


def _hold_one(
    *, before: Call | None = None, after_in_parent: Call | None = None, after_in_child: Call | None = None
) -> None:
    for call, held in ((before, _before), (after_in_parent, _in_parent), (after_in_child, _in_child)):
        if call is not None:
            held.append(call)


def _run_before() -> None:
    if _released:
        for call in reversed(_before):  # the order that the interpreter keeps
            call()


def _run_in_parent() -> None:
    if _released:
        for call in _in_parent:
            call()


def _run_in_child() -> None:
    if _released:
        for call in _in_child:
            call()
