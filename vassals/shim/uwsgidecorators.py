"""`import uwsgidecorators`: postfork, thread, lock and harakiri. The others fail where they are used, and say what to use."""

import functools
import threading
from collections.abc import Callable
from typing import Any

import uwsgi  # type: ignore[import-untyped]

from vassals.shim import APART, CLOCK, PAGE, TASKS, Unsupported

postfork_chain: list[Callable[[], Any]] = []


def _run_postfork_chain() -> None:
    for function in postfork_chain:
        function()


uwsgi.post_fork_hook = _run_postfork_chain


def postfork(function: Callable[[], Any]) -> Callable[[], Any]:
    """Call it in each worker, when the app is loaded and before the first request."""

    @functools.wraps(function)
    def called() -> Any:
        return function()

    postfork_chain.append(called)
    return called


def thread(function: Callable[..., Any]) -> Callable[..., threading.Thread]:
    """A call of it starts a thread and returns that."""

    @functools.wraps(function)
    def started(*arguments: Any, **keywords: Any) -> threading.Thread:
        made = threading.Thread(target=function, args=arguments, kwargs=keywords, daemon=True)
        made.start()
        return made

    return started


def lock(function: Callable[..., Any]) -> Callable[..., Any]:
    """One call at a time, among all workers of the generation."""

    @functools.wraps(function)
    def alone(*arguments: Any, **keywords: Any) -> Any:
        uwsgi.lock()
        try:
            return function(*arguments, **keywords)
        finally:
            uwsgi.unlock()

    return alone


def harakiri(seconds: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A call that takes longer ends the worker, with its stacks in the log."""

    def limited(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def called(*arguments: Any, **keywords: Any) -> Any:
            uwsgi.set_user_harakiri(seconds)
            try:
                return function(*arguments, **keywords)
            finally:
                uwsgi.set_user_harakiri(0)

        return called

    return limited


def _no(name: str, what: str, instead: str) -> Callable[..., Any]:
    def refuse(*_arguments: Any, **_keywords: Any) -> Any:
        raise Unsupported(f"@{name} of uwsgidecorators: the emperor has no {what}: use {instead} ({PAGE})")

    refuse.__name__ = name
    return refuse


timer, rbtimer, cron = (_no(name, "timers", CLOCK) for name in ("timer", "rbtimer", "cron"))
signal = _no("signal", "signals", CLOCK)
filemon = _no(
    "filemon", "file monitors", "touch-reload or fs-reload in the vassal's file, or watchdog in a thread"
)
spool, spoolraw, spoolforever = (
    _no(name, "spooler", TASKS) for name in ("spool", "spoolraw", "spoolforever")
)
mule, muleloop, mulemsg, mulefunc, mule_brain, mule_msg_dispatcher = (
    _no(name, "mules", APART)
    for name in ("mule", "muleloop", "mulemsg", "mulefunc", "mule_brain", "mule_msg_dispatcher")
)
farm, farm_loop, farm_brain, farm_msg = (
    _no(name, "farms", APART) for name in ("farm", "farm_loop", "farm_brain", "farm_msg")
)
rpc, erlang = (_no(name, "remote calls", "an HTTP request") for name in ("rpc", "erlang"))
