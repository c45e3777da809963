"""Reading what a tenant's file names with the tenant's rights, not with the emperor's.

Only an emperor that runs as root has rights to lend. The thread's file-system user is changed for as long as
the look takes (setfsuid(2): Linux drops the capabilities that pass over permissions with it), with the
supplementary groups, and checked, since setfsuid tells of no failure. Paths are resolved without magic links
(openat2(2), Linux 5.6): through /proc/self a tenant would look at the emperor itself, which the kernel never
refuses a process.
"""

import contextlib
import ctypes
import errno
import os
import pwd
from collections.abc import Iterator

from emperor.config.entries import Owner

_OPENAT2 = 437
_AT_FDCWD = -100
_RESOLVE_NO_MAGICLINKS = 0x02
_NOBODY = 65534


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def owner_of(uid: int, gid: int | None = None) -> Owner | None:
    """The owner whose rights a file of `uid`, or a vassal that runs as `uid` and `gid`, lends; None where the
    emperor's own serve.
    """
    mine = os.geteuid()
    return None if mine != 0 or uid in (0, mine) else Owner(uid, gid)


@contextlib.contextmanager
def as_owner(owner: Owner | None) -> Iterator[None]:
    """Look at files as `owner` does. Raises PermissionError if that cannot be had; nothing was looked at
    then.
    """
    if owner is None:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        entry = pwd.getpwuid(owner.uid)
        gid = entry.pw_gid if owner.gid is None else owner.gid
        groups = os.getgrouplist(entry.pw_name, gid)
    except KeyError:
        gid, groups = _NOBODY if owner.gid is None else owner.gid, []
    kept = os.getgroups()
    was = os.getegid()
    os.setgroups(groups)
    try:
        libc.setfsgid(gid)
        libc.setfsuid(owner.uid)
        # Both answer with what was before: asked for an id that there is not, they change nothing.
        if libc.setfsuid(-1) != owner.uid or libc.setfsgid(-1) != gid:
            raise PermissionError(errno.EPERM, f"the rights of user {owner.uid} cannot be taken on")
        yield
    finally:
        libc.setfsuid(os.geteuid())
        libc.setfsgid(was)
        os.setgroups(kept)


def open_file(path: str, owner: Owner | None) -> int:
    """A descriptor for reading `path` as `owner`. Never waits for a FIFO's writer. Raises OSError."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    if owner is None:
        return os.open(path, flags)
    with as_owner(owner):
        return _open_plain(path, flags)


def _open_plain(path: str, flags: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    how = _OpenHow(flags, 0, _RESOLVE_NO_MAGICLINKS)
    fd: int = libc.syscall(
        ctypes.c_long(_OPENAT2),
        ctypes.c_int(_AT_FDCWD),
        ctypes.c_char_p(os.fsencode(path)),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    if fd < 0:
        number = ctypes.get_errno()
        if number in (errno.ENOSYS, errno.EPERM):
            raise PermissionError(
                number, "cannot be opened safely: this kernel or container has no openat2(2)", path
            )
        raise OSError(number, os.strerror(number), path)
    # Without magic links /proc/self/environ is still the emperor's own.
    if is_the_kernels(os.fstat(fd)):
        os.close(fd)
        raise PermissionError(errno.EACCES, "lies in a file system of the kernel's", path)
    return fd


def is_the_kernels(status: os.stat_result) -> bool:
    """Whether a file lies in /proc or /sys: no disk holds it, and to read it may wait or change something."""
    for path in ("/proc", "/sys"):
        with contextlib.suppress(OSError):
            if os.stat(path).st_dev == status.st_dev:
                return True
    return False
