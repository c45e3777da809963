"""The tasks of a worker's event loop as `emperor trace` and the log show them: which request each is of, and where it waits."""

import asyncio
import os
import traceback
from collections.abc import Iterable
from types import FrameType
from typing import Any, Final

from vassals.tracing import MOST_LISTED

_HERE: Final = os.path.dirname(__file__)
_OURS: Final = frozenset(
    (
        os.path.join(_HERE, "aio.py"),
        os.path.join(os.path.dirname(_HERE), "adapters", "asgi.py"),
        os.path.join(os.path.dirname(_HERE), "adapters", "lifespan.py"),
    )
)


def stack_of(task: "asyncio.Task[Any]") -> str:
    """Where a task waits, the innermost last, with what it awaits in turn. Frames of ours are left out."""
    lines: list[str] = []
    at: Any = task.get_coro()
    while at is not None:
        frame = (
            getattr(at, "cr_frame", None) or getattr(at, "gi_frame", None) or getattr(at, "ag_frame", None)
        )
        if frame is not None and frame.f_code.co_filename not in _OURS:
            lines += traceback.format_stack(frame, 1)
        at = (
            getattr(at, "cr_await", None)
            or getattr(at, "gi_yieldfrom", None)
            or getattr(at, "ag_await", None)
        )
    return "".join(lines) or "  (not begun)\n"


def listed(
    loop: asyncio.AbstractEventLoop,
    requests: Iterable[tuple[str, "asyncio.Task[None]"]],
    frame: FrameType | None,
) -> list[str]:
    """A paragraph of lines for each task: those of ``requests``, which are named by what was asked for, before the app's own.
    ``frame`` is where the loop's thread is now."""
    named = [(text, task) for text, task in requests if not task.done()]
    ours = {task for _, task in named}
    others = [
        (f"{task.get_name()} ({_qualified(task)})", task)
        for task in asyncio.all_tasks(loop)
        if task not in ours and not _is_ours(task)
    ]
    found = [*named, *others]
    running = asyncio.current_task(loop)
    lines: list[str] = []
    for text, task in found[:MOST_LISTED]:
        stack = _stack_of_running(task, frame) if task is running else stack_of(task)
        lines += [f"Task {text}:", *stack.splitlines()]
    if len(found) > MOST_LISTED:
        lines.append(f"and {len(found) - MOST_LISTED} more")
    return lines


def _qualified(task: "asyncio.Task[Any]") -> str:
    return getattr(task.get_coro(), "__qualname__", "?")


def _is_ours(task: "asyncio.Task[Any]") -> bool:
    """The worker's own: the one that serves, and the lifespan's."""
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and code.co_filename in _OURS


def _stack_of_running(task: "asyncio.Task[Any]", frame: FrameType | None) -> str:
    """Of the task that was interrupted: nothing leads from its coroutine to what it calls, so it is found from there."""
    lines: list[str] = []
    first = getattr(task.get_coro(), "cr_frame", None)
    while frame is not None:
        if frame.f_code.co_filename not in _OURS:
            lines[:0] = traceback.format_stack(frame, 1)
        if frame is first:
            break
        frame = frame.f_back
    return "".join(lines) or "  (it runs)\n"
