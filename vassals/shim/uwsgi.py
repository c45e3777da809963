"""`import uwsgi`: what of it apps use beside uwsgidecorators. What is not here is an AttributeError that says what to use."""

import atexit as _atexit
import fcntl as _fcntl
import os as _os
import socket as _socket
import sys as _sys
import threading as _threading
import time as _time
from collections.abc import Callable as _Callable
from typing import Any as _Any

from vassals.loaders.imports import Here as _Here
from vassals.shim import PAGE as _PAGE
from vassals.shim import why_not as _why_not

_MOST_LOCKS = 64
_LOCKS_AT = 1 << 40  # far behind the page: nothing else locks bytes there
_WAIT_S = 0.02
_HOOKS = ("post_fork_hook", "atexit", "after_req_hook", "spooler", "mule_msg_hook")

version = "2.0.30"  # whose API this is; what runs is the emperor
version_info = (2, 0, 30, 0, "emperor")
hostname = _socket.gethostname().encode()
started_on = int(_time.time())
numproc = 1 if _Here.spec is None else _Here.spec.processes
cores = threads = 1 if _Here.spec is None else _Here.spec.slots
has_threads = 1
# What libraries look for before they start threads, or want to hear of forks: both hold here.
opt = {"master": b"true", "enable-threads": b"true", "py-call-uwsgi-fork-hooks": b"true", "need-app": b"true"}
SPOOL_OK, SPOOL_RETRY, SPOOL_IGNORE = -2, -1, 0

post_fork_hook: _Callable[[], _Any] | None = None
atexit: _Callable[[], _Any] | None = None

_asked: set[str] = set()
_inner: dict[int, _threading.Lock] = {}


def __getattr__(name: str) -> _Any:
    if name.startswith("__") or name in _HOOKS:
        raise AttributeError(name)
    why = _why_not("uwsgi", name)
    if name not in _asked:  # `from uwsgi import NAME` says nothing but that it cannot
        _asked.add(name)
        _sys.stderr.write(f"{why}\n")
    raise AttributeError(why)


def worker_id() -> int:
    """From 1 on; 0 in a template."""
    return _Here.seat + 1


def mule_id() -> int:
    return 0


def masterpid() -> int:
    """The gateway's: it is what supervises the workers."""
    return _os.getppid()


def i_am_the_spooler() -> bool:
    return False


def log(text: "str | bytes") -> bool:
    """A line for the app's log."""
    _sys.stderr.write(f"{text.decode('utf-8', 'replace') if isinstance(text, bytes) else text}\n")
    return True


def lock(number: int = 0) -> None:
    """Hold a lock of the generation's workers. Whoever ends gives it back, however that is."""
    inner = _inner_lock(number)
    inner.acquire()  # among the threads of this worker: the kernel's is the process's
    while not _take(number):
        _time.sleep(_WAIT_S)  # which gevent turns into a turn of the others


def unlock(number: int = 0) -> None:
    inner = _inner_lock(number)
    if inner.locked():
        _fcntl.lockf(_page(), _fcntl.LOCK_UN, 1, _LOCKS_AT + number)
        inner.release()


def is_locked(number: int = 0) -> bool:
    """By any worker of the generation."""
    inner = _inner_lock(number)
    if not inner.acquire(blocking=False):
        return True
    try:
        if not _take(number):
            return True
        _fcntl.lockf(_page(), _fcntl.LOCK_UN, 1, _LOCKS_AT + number)
        return False
    finally:
        inner.release()


def set_user_harakiri(seconds: int) -> None:
    """What runs in this thread has so long from now on; 0: as long as the vassal's file says."""
    if _Here.orders is not None:
        _Here.orders.tell("limit", key=str(_threading.get_ident()), seconds=float(seconds))


def _inner_lock(number: int) -> _threading.Lock:
    if not 0 <= number < _MOST_LOCKS:
        raise ValueError(f"uwsgi.lock: there are locks 0 to {_MOST_LOCKS - 1}, and no {number} ({_PAGE})")
    return _inner.setdefault(number, _threading.Lock())


def _take(number: int) -> bool:
    try:
        _fcntl.lockf(_page(), _fcntl.LOCK_EX | _fcntl.LOCK_NB, 1, _LOCKS_AT + number)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _page() -> int:
    if _Here.board_fd < 0:
        raise RuntimeError(
            f"uwsgi.lock: there is no worker yet: call it in a request, or in a @postfork function ({_PAGE})"
        )
    return _Here.board_fd


def _at_exit() -> None:
    if atexit is not None:
        atexit()


_atexit.register(_at_exit)
