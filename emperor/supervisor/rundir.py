"""The run directory of one emperor and the lock that makes it the only one.

```
DIR/                  0711  made by the emperor
  control.sock        0600  the operator's commands
  places              0644  what it serves, a path a line
  stats.sock          0600  one statistics document per connection
  uwsgi.sock          0660  uwsgi input for nginx on this host
  router-S.sock       0600  control of router seat S
  gw/KEY.N.sock       0600  control of generation N's gateway; KEY is 8 hexadecimal digits of the name's SHA-256
  bp/KEY.S            0600  the backplane of router seat S, owned by the vassal's uid
  state/KEY.N.json    0600  what generation N was started from, written before its spawn
```

A unix socket's path may have 107 bytes, so paths are short, and one that cannot be is an error that names
--run-dir. Everything here is safe to find already there: an emperor that was killed leaves it all behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import stat
import tempfile
from pathlib import Path

PATH_BYTES = 107
"""The longest path of a unix socket: `sun_path` without its final NUL."""

MOST_ROUTERS = 4
"""Seats (`wanted.ROUTERS`), whose paths are removed at the end."""

_LONGEST = "gw/01234567.1000000000.sock"


class RunDirError(Exception):
    """The run or vassal directory cannot be used; the text says which, why, and what to do."""


class Locked(RunDirError):
    """Another emperor holds the directory; the text names its pid."""


def run_root(uid: int, environ: dict[str, str]) -> Path:
    """Where run directories are: /run/emperor for root, else below XDG_RUNTIME_DIR, else a directory of the
    user's own in the temporary directory."""
    if uid == 0:
        return Path("/run/emperor")
    if environ.get("XDG_RUNTIME_DIR"):
        return Path(environ["XDG_RUNTIME_DIR"], "emperor")
    return Path(tempfile.gettempdir(), f"emperor-{uid}")


def derived(root: Path, directory: Path) -> Path:
    """The run directory of the emperor of `directory`: two directories never share one."""
    real = os.path.realpath(directory)
    readable = re.sub(r"[^A-Za-z0-9_-]", "", os.path.basename(real))[:16] or "root"
    return root / f"{readable}-{_key(real)}"


class RunDir:
    """The paths in one run directory. Makes nothing before `make`."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self.control = f"{self.path}/control.sock"
        self.stats = f"{self.path}/stats.sock"
        self.uwsgi = f"{self.path}/uwsgi.sock"
        self.places = f"{self.path}/places"
        self.paused = f"{self.path}/paused.json"

    def router(self, seat: int) -> str:
        return f"{self.path}/router-{seat}.sock"

    def gateway(self, name: str, generation: int) -> str:
        return f"{self.path}/gw/{_key(name)}.{generation}.sock"

    def backplane(self, name: str, seat: int = 0) -> str:
        return f"{self.path}/bp/{_key(name)}.{seat}"

    def state(self, name: str, generation: int) -> str:
        return f"{self.path}/state/{_key(name)}.{generation}.json"

    @property
    def states(self) -> str:
        return f"{self.path}/state"

    @property
    def directories(self) -> tuple[str, ...]:
        """Itself, and those in it."""
        return (self.path, *(each for each, _ in self._inside()))

    def make(self) -> None:
        """Make what is missing, and give what is there the modes above. Raises RunDirError."""
        longest = len(os.fsencode(f"{self.path}/{_LONGEST}"))
        if longest > PATH_BYTES:
            raise RunDirError(
                f"the run directory {self.path} is too long by {longest - PATH_BYTES} bytes: the path of a unix "
                f"socket may have {PATH_BYTES}; choose a shorter one with --run-dir"
            )
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o755, exist_ok=True)
            for directory, mode in ((self.path, 0o711), *self._inside()):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(directory, 0o700)
                status = os.lstat(directory)
                if not stat.S_ISDIR(status.st_mode):
                    raise RunDirError(
                        f"{directory} is no directory: remove it, or choose another with --run-dir"
                    )
                if status.st_uid != os.geteuid():
                    # In a shared place like /tmp somebody may have been here first.
                    raise RunDirError(
                        f"the run directory {directory} belongs to uid {status.st_uid}, not to {os.geteuid()}: "
                        "choose another with --run-dir"
                    )
                os.chmod(directory, mode)
        except OSError as error:
            raise RunDirError(
                f"the run directory {self.path} cannot be made: {error.filename}: {error.strerror}; choose another "
                "with --run-dir"
            ) from error

    def clear(self) -> None:
        """Remove everything that is ours, and the directory itself when nothing else is in it."""
        for directory, _ in self._inside():
            with contextlib.suppress(OSError):
                for name in os.listdir(directory):
                    with contextlib.suppress(OSError):
                        os.unlink(os.path.join(directory, name))
                os.rmdir(directory)
        routers = [self.router(seat) for seat in range(MOST_ROUTERS)]
        for path in (self.control, self.stats, self.uwsgi, self.places, self.paused, *routers):
            with contextlib.suppress(OSError):
                os.unlink(path)
        with contextlib.suppress(OSError):
            os.rmdir(self.path)

    def clear_if_empty(self) -> None:
        """Remove the directories that hold nothing: of an emperor that could not start."""
        for directory in (*(each for each, _ in self._inside()), self.path):
            with contextlib.suppress(OSError):
                os.rmdir(directory)

    def _inside(self) -> tuple[tuple[str, int], ...]:
        # A vassal's workers connect to their backplane by its path; nobody else needs to find anything here.
        return (f"{self.path}/gw", 0o700), (f"{self.path}/bp", 0o711), (f"{self.path}/state", 0o700)


def lock_directory(path: str) -> int:
    """Hold `path` for this process: a descriptor that is locked for as long as it is open. Raises Locked,
    RunDirError.

    The lock is the kernel's (flock on the directory itself), so that it dies with its holder however that
    ends, and nothing is written into the directory.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise RunDirError(f"{path}: {error.strerror}") from error
    return _locked(fd, path)


def _locked(fd: int, path: str) -> int:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = _holder(fd)
        os.close(fd)
        if not isinstance(error, BlockingIOError):
            raise RunDirError(f"{path} cannot be locked: {error.strerror}") from error
        who = f"the emperor with pid {holder}" if holder else "another emperor"
        raise Locked(f"{path} is held by {who}: `emperor stop` it first, or name another directory") from None
    return fd


def lock_pattern(root: Path, pattern: str) -> int:
    """Hold a pattern of files for this process, as `lock_directory` does a directory: by a file below `root`. Raises
    Locked, RunDirError."""
    path = pattern_lock(root, pattern)
    locks = os.path.dirname(path)
    try:
        os.makedirs(root, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(locks, 0o700)
        status = os.lstat(locks)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise RunDirError(
                f"{locks} belongs to uid {status.st_uid}: set XDG_RUNTIME_DIR to a directory of yours"
            )
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise RunDirError(f"{path}: {error.strerror}") from error
    return _locked(fd, pattern)


def pattern_lock(root: Path, pattern: str) -> str:
    """The file by which a pattern is held."""
    return str(root / "locks" / _key(pattern))


def holder_of(path: str) -> int | None:
    """The pid of the emperor that holds this directory, as far as the system shows it to us."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _holder(fd)
    finally:
        os.close(fd)


def control_of(pid: int) -> str | None:
    """The control socket of the emperor with this pid, wherever its run directory is, as far as the system shows it to us."""
    own = set()
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                own.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    with (
        contextlib.suppress(OSError),
        open("/proc/net/unix", encoding="utf-8", errors="surrogateescape") as file,
    ):
        for line in file:
            # ffff9f4d: 00000002 00000000 00010000 0001 01 31254 /run/emperor/vassals-1f3c/control.sock
            fields = line.rstrip("\n").split(maxsplit=7)
            if len(fields) == 8 and f"socket:[{fields[6]}]" in own and fields[7].endswith("/control.sock"):
                return fields[7]
    return None


def _holder(fd: int) -> int | None:
    """The pid that holds a flock on the file behind `fd`, as far as /proc/locks shows it to us."""
    status = os.fstat(fd)
    with contextlib.suppress(OSError), open("/proc/locks", encoding="ascii") as file:
        for line in file:
            fields = line.split()
            # 1: FLOCK ADVISORY WRITE 812 fe:00:131 0 EOF; the device is left out, since overlay and btrfs
            # show another one there than stat does.
            if (
                "FLOCK" in fields
                and "->" not in fields
                and int(fields[5].rpartition(":")[2]) == status.st_ino
            ):
                return int(fields[4])
    return None


def _key(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:8]
