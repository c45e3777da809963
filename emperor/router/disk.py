"""The files behind ``spool``, and the threads that write and read them.

A write of 256 KiB into the page cache takes 45 µs, but now and then the kernel holds the writer up until the disk has caught
up: 25 ms were seen on an idle machine, and a network disk may take seconds. The event loop must not stand still for that.
"""

import asyncio
import errno
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Final, TypeVar

from emperor.router.carry import carry
from emperor.router.spool import FULL, Carried

T = TypeVar("T")

THREADS: Final = 2
"""One disk is not written faster by more; two, so that one read need not wait behind one write."""

MOST_PIECES: Final = 512
"""In one write; the system takes 1024 (IOV_MAX)."""

FALLBACKS: Final = ("/var/tmp", "/tmp")


class File:
    """A file without a name, made when it is first written."""

    __slots__ = ("fd",)

    def __init__(self) -> None:
        self.fd = -1


class Files:
    """A ``spool.Disk`` in ``directory``. The threads start with the first body that goes to disk."""

    def __init__(self, loop: asyncio.AbstractEventLoop, directory: str | None) -> None:
        self.loop = loop
        self._named = directory
        self._threads: ThreadPoolExecutor | None = None
        self._at_hand = True  # what the system has in memory can be read without waiting

    def use(self, directory: str | None) -> None:
        """For the files that are made from now on."""
        self._named = directory
        self.__dict__.pop("directory", None)

    @cached_property
    def directory(self) -> str:
        """Chosen when it is first needed, as the user that the router has become by then."""
        return self._named or default_directory()

    def writable(self) -> bool:
        """Whether files can be made there, as far as its mode says."""
        return os.access(self.directory, os.W_OK | os.X_OK)

    def open(self) -> File:
        return File()

    def write(self, file: File, data: list[bytes], done: Callable[[OSError | None], None]) -> None:
        self._run(lambda: _write(self.directory, file, data), done)

    def carry(self, file: File, source: int, most: int, done: Callable[[Carried], None]) -> None:
        # The connection may be closed meanwhile, and its number another one's.
        copy = os.dup(source)
        try:
            self._run(lambda: _carry(self.directory, file, copy, most), done)
        except BaseException:
            os.close(copy)
            raise

    def read(self, file: File, at: int, size: int, done: Callable[[bytes | OSError], None]) -> None:
        self._run(lambda: _read(file.fd, at, size), done)

    def read_now(self, file: File, at: int, into: memoryview) -> int:
        if not self._at_hand:
            return 0
        try:
            return os.preadv(file.fd, [into], at, os.RWF_NOWAIT)
        except BlockingIOError:
            return 0  # not in the page cache
        except OSError as error:
            # A file system, or a kernel, that cannot (preadv2(2)). Whatever else is wrong, `read` will say.
            if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                self._at_hand = False
            return 0

    def close(self, file: File) -> None:
        # To give a gigabyte back takes the kernel a while, too.
        if file.fd >= 0:
            self._run(lambda: os.close(file.fd), lambda _nothing: None)

    def _run(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="spool")

        def there() -> None:
            result = work()
            self.loop.call_soon_threadsafe(done, result)

        self._threads.submit(there)

    def stop(self) -> None:
        """Begin nothing more; what is asked for is finished."""
        if self._threads is not None:
            self._threads.shutdown(wait=False)


def default_directory(environ: Any = os.environ) -> str:
    """TMPDIR where that is set; else the place for large temporary files, which is on disk (file-hierarchy(7)) while /tmp and
    the run directory often are in memory."""
    named = environ.get("TMPDIR")
    choices = (named, *FALLBACKS) if named else FALLBACKS
    # With none of them writable the last is as good as any: opening a file there says what is wrong.
    return next((each for each in choices if os.access(each, os.W_OK | os.X_OK)), FALLBACKS[-1])


def _open(directory: str) -> int:
    try:
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC | os.O_EXCL, 0o600)
    except OSError as error:
        # Not every file system can (open(2)); ENOENT and EISDIR are what kernels say that do not know the flag.
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
    fd, path = tempfile.mkstemp(prefix="emperor-body-", dir=directory)
    os.unlink(path)
    return fd


def _write(directory: str, file: File, data: list[bytes]) -> OSError | None:
    try:
        if file.fd < 0:
            file.fd = _open(directory)
        while data:
            _drop(data, os.writev(file.fd, data[:MOST_PIECES]))
    except OSError as error:
        return _placed(error, directory)
    return None


def _carry(directory: str, file: File, source: int, most: int) -> Carried:
    count = 0
    try:
        if file.fd < 0:
            file.fd = _open(directory)
        count, how, why = carry(source, file.fd, most)
        if how == FULL:
            raise OSError(why, os.strerror(why))
    except OSError as error:
        return Carried(count, FULL, _placed(error, directory))
    finally:
        os.close(source)
    return Carried(count, how)


def _placed(error: OSError, directory: str) -> OSError:
    """The error of an open names the directory; that of a write names nothing."""
    return error if error.filename else OSError(error.errno, error.strerror, directory)


def _drop(data: list[bytes], size: int) -> None:
    """Takes the first ``size`` bytes off a list of pieces."""
    whole = 0
    while whole < len(data) and size >= len(data[whole]):
        size -= len(data[whole])
        whole += 1
    del data[:whole]
    if size:
        data[0] = data[0][size:]


def _read(fd: int, at: int, size: int) -> bytes | OSError:
    out = b""
    try:
        while len(out) < size:
            piece = os.pread(fd, size - len(out), at + len(out))
            if not piece:
                return OSError(errno.EIO, "a spooled body is shorter than what was written")
            out += piece
    except OSError as error:
        return error
    return out
