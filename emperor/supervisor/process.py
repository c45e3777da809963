"""Starting, naming and burying processes: the one module, beside the spawner and a gateway's fork, that
does it.

Everything here is a thin wrapper round one system call or one file of /proc, so that the rest of the house
decides and this carries out. Two rules of the operating system shape it:

* The emperor has threads (the directory watcher, the log's writer), and a fork copies locks that no thread
  will ever open again. So it never forks in Python: `spawn_exec` is `posix_spawn`, which execs at once.
* A descriptor that a child inherits by accident keeps a listening socket or a dead peer's pipe alive. What
  is not on the list is closed, with `close_range(2)`: a loop up to the descriptor limit takes seconds where
  that limit is a million.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import calls, signals

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_CLOSE_RANGE_CLOEXEC = 4
_LAST_FD = 0xFFFFFFFF
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Exit:
    """How a process ended: by `exit(code)` or by `signal`; both None when nobody could wait for it."""

    code: int | None = None
    signal: int | None = None

    @classmethod
    def from_status(cls, status: int) -> Exit:
        """From a `waitpid` status word."""
        if os.WIFSIGNALED(status):
            return cls(signal=os.WTERMSIG(status))
        return cls(code=os.WEXITSTATUS(status))

    @property
    def text(self) -> str:
        """For people: "exited with code 70", "killed by signal 9 (SIGKILL)", "died unsupervised"."""
        if self.signal is not None:
            return f"killed by signal {self.signal} ({_signal_name(self.signal)})"
        if self.code is not None:
            return f"exited with code {self.code}"
        return "died unsupervised"


UNSEEN = Exit()
"""The end of a process that was not our child: its pidfd fired, and nobody knows more."""


class StartError(Exception):
    """A program could not be started; the text names which, and why."""


# -- starting --------------------------------------------------------------------------------------------


def spawn_exec(argv: Sequence[str], env: Mapping[str, str], fds: Mapping[int, int], title: str) -> int:
    """Start `argv` in a session of its own and return its pid.

    `fds` maps the descriptor number that the child sees to ours; every other one is closed in it (0 is
    /dev/null unless it is in the list). All signals have their default action and none is blocked.
    `argv[0]` is a path, `title` says in an error what was to be started: the program sets its own process
    title. Raises StartError.
    """
    moved: dict[int, int] = {}
    try:
        _move_up(fds, moved)
        # What a library, or whoever started us, left inheritable. (Python's own descriptors never are.)
        forbid_inheritance()
        actions: list[Any] = [(os.POSIX_SPAWN_DUP2, source, target) for target, source in moved.items()]
        # A program without them would get 0, 1 or 2 for the next thing that it opens, and print into it.
        for standard in {0, 1, 2} - moved.keys():
            actions.append((os.POSIX_SPAWN_OPEN, standard, os.devnull, os.O_RDWR, 0))
        return os.posix_spawn(
            argv[0],
            list(argv),
            dict(env),
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
        )
    except OSError as error:
        raise StartError(f"cannot start {title}: {argv[0]}: {error.strerror}") from error
    finally:
        for source in moved.values():
            os.close(source)


def forbid_inheritance(first: int = 3) -> None:
    """Mark every open descriptor from `first` on close-on-exec."""
    if calls.close_range(first, _LAST_FD, _CLOSE_RANGE_CLOEXEC):
        return
    for fd in _open_fds():  # Linux before 5.11
        if fd >= first:
            with contextlib.suppress(OSError):
                os.set_inheritable(fd, False)


def close_except(keep: Iterable[int]) -> None:
    """Close every descriptor that is not in `keep`. For a fresh fork only: what they belonged to is not
    told."""
    low = 0
    wanted = sorted(set(keep))
    for high in [*wanted, _LAST_FD + 1]:
        if low < high and not calls.close_range(low, high - 1, 0):
            break
        low = high + 1
    else:
        return
    for fd in _open_fds():  # Linux before 5.9
        if fd not in wanted:
            with contextlib.suppress(OSError):
                os.close(fd)


def place_fds(fds: Mapping[int, int], keep: int | None = None) -> int:
    """Give this process exactly the descriptors of `fds` (number wanted → number now), inheritable, and
    close all others.

    `keep` names one more that stays, close-on-exec; its new number is returned (-1 without). For a fresh
    fork only.
    """
    moved: dict[int, int] = {}
    _move_up(fds if keep is None else {**fds, -1: keep}, moved)
    kept = moved.pop(-1, -1)
    for target, source in moved.items():
        os.dup2(source, target)
    close_except([*fds, *([] if keep is None else [kept])])
    return kept


def restore_signals(changed: Iterable[int]) -> None:
    """Give a fresh fork a new interpreter's action for the signals that its starter had `changed`; block
    none, and ring nobody's wake-up descriptor. (Not for all 64: each one asked for is memory touched, and
    so copied, in every fork.)"""
    signals.set_wakeup_fd(-1)
    for signum in changed:
        signals.set_action(signum, signals.interrupt if signum == signal.SIGINT else signals.SIG_DFL)
    signals.set_mask(signals.SIG_SETMASK, ())


def set_subreaper() -> None:
    """Become the parent of every descendant whose own parent dies (PR_SET_CHILD_SUBREAPER)."""
    calls.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_parent_death_signal(signum: int) -> None:
    """Ask for `signum` when our parent dies. A change of uid clears it. The parent may have died just
    before this call: compare `os.getppid()` afterwards with the pid that it had."""
    calls.prctl(_PR_SET_PDEATHSIG, signum)


def set_title(title: str) -> None:
    """Name this process in ps and top."""
    import setproctitle

    setproctitle.setproctitle(title)


# -- burying ---------------------------------------------------------------------------------------------


def reap() -> list[tuple[int, Exit]]:
    """Wait for every child that has ended, without blocking: (pid, how it ended), also for adopted
    strangers."""
    ended: list[tuple[int, Exit]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append((pid, Exit.from_status(status)))


def pidfd_open(pid: int) -> int:
    """A descriptor that becomes readable when `pid` ends (pidfd_open(2)). Raises ProcessLookupError when it
    has gone."""
    return os.pidfd_open(pid)


def signal_pidfd(pidfd: int, signum: int) -> bool:
    """Send `signum` to exactly the process behind `pidfd`. False: it has ended."""
    try:
        signal.pidfd_send_signal(pidfd, signum)
    except ProcessLookupError:
        return False
    return True


def is_alone() -> bool:
    """Whether this process has but one thread. False where /proc does not say."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat: clock ticks from boot to its start. With the pid it names one process,
    for as long as the machine is up. Raises ProcessLookupError when there is no such process."""
    return int(_stat(pid)[19])


def state_of(pid: int) -> str:
    """Field 3 of the same: ``R`` it runs, ``S`` and ``D`` it waits, ``T`` it is stopped, ``t`` by a debugger, …; empty: there
    is no such process."""
    try:
        return _stat(pid)[0].decode()
    except ProcessLookupError:
        return ""


def _stat(pid: int) -> list[bytes]:
    """What /proc/PID/stat has from field 3 on. Raises ProcessLookupError."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
        try:
            stat = os.read(fd, 4096)
        finally:
            os.close(fd)
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(f"no process {pid}") from None
    # The name, field 2, is in parentheses and may itself hold spaces and parentheses: count from the last
    # one.
    return stat[stat.rindex(b")") + 2 :].split()


def uid_of(pid: int) -> int | None:
    """As whom a process runs; None for one that is gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("Uid:")), None)
    except OSError:
        return None


def memory(pid: int) -> tuple[int, int]:
    """The size of a process's address space and what of it is in memory, shared pages among it, in bytes (proc(5), statm).
    Zeros for one that is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb", buffering=0) as file:
            size, resident = file.read(128).split()[:2]
    except (OSError, ValueError):
        return 0, 0
    return int(size) * _PAGE, int(resident) * _PAGE


def children() -> set[int]:
    """The pids of our children now, of every thread of ours; ended ones that nobody waited for among them."""
    found: set[int] = set()
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/children", "rb") as file:
                found.update(map(int, file.read().split()))
        except FileNotFoundError:  # a thread that has just ended
            continue
    return found


def descendants(pid: int) -> list[int]:
    """The pids of its children, of theirs, and so on, those that are nearest first."""
    found: list[int] = []
    left = [pid]
    while left:
        parent = left.pop(0)
        try:
            with open(f"/proc/{parent}/task/{parent}/children", "rb") as file:
                children = [int(each) for each in file.read().split()]
        except (OSError, ValueError):
            continue
        left += children
        found += children
    return found


# -- inside ----------------------------------------------------------------------------------------------


def _move_up(fds: Mapping[int, int], moved: dict[int, int]) -> None:
    """Copy each source above every target, so that no target's number is taken before its own source was
    copied."""
    above = max(fds, default=0) + 1
    for target, source in fds.items():
        moved[target] = fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, max(above, 3))


def _open_fds() -> list[int]:
    return [int(name) for name in os.listdir("/proc/self/fd")]


def _signal_name(signum: int) -> str:
    try:
        return signal.Signals(signum).name
    except ValueError:
        return "a real-time signal"
