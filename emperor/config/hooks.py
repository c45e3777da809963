"""What is run for an app at the moments of its life: commands, by its gateway, and callables, in its workers. Pure.

The moments and names are uWSGI's. Three things differ. Every command runs as the app's user: there is no root left in the
processes of an app, and a line in a tenant's file must not bring it back. Every command has a deadline. And a hook is a
command, or a line in the log: uWSGI's other verbs are written as commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emperor.config import parts
from emperor.config.problems import Mistake

BEFORE = ("asap", "pre-jail", "post-jail", "as-user", "pre-app")
"""Once for a generation, one after the other, before its app is loaded."""

AFTER = ("post-app",)
"""Once, when the app is loaded in every worker and before the generation takes a request."""

ACCEPTING = ("accepting1", "accepting")
"""When the first worker serves, and when each does."""

ATEXIT = ("as-user-atexit",)
"""Once, when the generation's last worker has left."""

AS_ROOT = frozenset(("asap", "pre-jail", "post-jail"))
"""Moments at which uWSGI still is root."""

WITH_EXEC = frozenset((*BEFORE, *AFTER, *ATEXIT))
"""Moments that uWSGI has an ``exec-…`` for, beside ``hook-…``."""

_VERBS = ("exec", "safeexec", "print", "log")

Job = tuple[str, str]
"""The option, and what is run: ``exec:COMMAND`` or ``print:TEXT``."""


@dataclass(frozen=True)
class Hooks:
    """`jobs` are commands in the order in which they run; `post_fork`, `worker_ready` and `worker_exit` name callables,
    ``pkg.mod:name``. `timeout_s` is for each of them."""

    before: tuple[Job, ...] = ()
    after: tuple[Job, ...] = ()
    accepting1: tuple[Job, ...] = ()
    accepting: tuple[Job, ...] = ()
    atexit: tuple[Job, ...] = ()
    post_fork: tuple[str, ...] = ()
    worker_ready: tuple[str, ...] = ()
    worker_exit: tuple[str, ...] = ()
    timeout_s: float = 60.0

    @property
    def start_s(self) -> float:
        """How long they may hold up a start, beyond what the app itself may take."""
        return self.timeout_s * (len(self.before) + len(self.after) + len(self.post_fork))

    @property
    def calls(self) -> bool:
        """Whether anything is to be called in workers."""
        return bool(self.post_fork or self.worker_ready or self.worker_exit)

    def to_json(self) -> dict[str, Any]:
        """A dict of lists of strings or of pairs, and one number, ready for `json.dumps`."""
        return parts.json_of(self)

    @classmethod
    def from_json(cls, document: Any) -> Hooks:
        """The inverse of `to_json`; what is missing is the default. Raises ValueError naming the key of a wrong type."""
        return cls(**parts.keys_of(cls, "hooks", document, _OF_JOBS))


NONE = Hooks()
_OF_JOBS = frozenset(("before", "after", "accepting1", "accepting", "atexit"))


def of_options(values: Mapping[str, Any]) -> Hooks:
    """What a vassal's options come to, by their names. At one moment hooks come before commands, as in uWSGI."""
    return Hooks(
        before=_jobs(values, BEFORE),
        after=_jobs(values, AFTER),
        accepting1=_jobs(values, ACCEPTING[:1]),
        accepting=_jobs(values, ACCEPTING[1:]),
        atexit=_jobs(values, ATEXIT),
        post_fork=tuple(values["post-fork-hook"]),
        worker_ready=tuple(values["worker-ready-hook"]),
        worker_exit=tuple(values["worker-exit-hook"]),
        timeout_s=values["hook-timeout"],
    )


def hook(text: str) -> str:
    """``exec:COMMAND`` or ``print:TEXT``, from a value of uWSGI's. Raises Mistake."""
    verb, colon, argument = text.partition(":")
    if not colon or not argument.strip():
        raise Mistake(f"{text!r} names nothing to do", "write exec:COMMAND or print:TEXT")
    if verb in ("mount", "umount", "unshare", "setns", "pivot_root", "hostname"):
        raise Mistake(
            f"{verb}: isolates the app from the system, and nothing here does", "let its unit do so"
        )
    if verb in ("call", "callret", "callint", "callintret", "rpc", "retryrpc"):
        raise Mistake(
            f"{verb}: calls into uWSGI's own process, and there is none",
            "post-fork-hook = pkg.mod:name calls Python",
        )
    if verb == "unix_signal":
        raise Mistake("TERM always stops, after requests have finished", "remove the line")
    if verb not in _VERBS:
        raise Mistake(f"{verb}: is not carried out here", "write it as a command: exec:COMMAND")
    return f"exec:{argument}" if verb in ("exec", "safeexec") else f"print:{argument}"


def _jobs(values: Mapping[str, Any], moments: tuple[str, ...]) -> tuple[Job, ...]:
    found: list[Job] = []
    for moment in moments:
        found += [(f"hook-{moment}", each) for each in values[f"hook-{moment}"]]
        if moment in WITH_EXEC:
            found += [(f"exec-{moment}", f"exec:{each}") for each in values[f"exec-{moment}"]]
    return tuple(found)
