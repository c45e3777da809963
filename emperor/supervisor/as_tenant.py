"""The short-lived process that touches a tenant's paths *as the tenant* (the other end is `tenant.py`).

It is exec'd for one list of steps, becomes the tenant for good, carries them out, sends the descriptors back and
ends. The kernel alone judges what the tenant may touch: a symlink, a hard link or a directory of somebody else's leads
nowhere that the tenant's own processes could not go. It imports next to nothing, since it is started often.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from emperor.control.channel import Channel, ChannelClosed
from emperor.privileges import PrivilegeError, drop
from emperor.supervisor.stale import is_stale

CHANNEL_FD = 3

READ_LIMIT = 1 << 20

_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""Nothing that a path may lead to holds us up: a FIFO without a reader, a terminal, a tape."""


class _Not(OSError):
    """It was possible, and is refused; the second argument says what is wrong."""


def append(step: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Open a regular file for appending; it is made with `mode` if it is not there."""
    path: str = step["path"]
    _regular(path)
    mode: int = step["mode"]
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _FLAGS, mode)
    return _checked(fd)


def read(step: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Copy a regular file, or its first `READ_LIMIT` bytes, into memory, and give that: reading from the file itself could take
    for ever, and who asks has other things to do."""
    _regular(step["path"])
    fd, found = _checked(os.open(step["path"], os.O_RDONLY | _FLAGS))
    content = b""
    try:
        while len(content) < READ_LIMIT and (piece := os.read(fd, READ_LIMIT - len(content))):
            content += piece
    finally:
        os.close(fd)
    copy = os.memfd_create("read", os.MFD_CLOEXEC)
    os.write(copy, content)
    os.lseek(copy, 0, os.SEEK_SET)
    return copy, found


def write(step: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Make or overwrite a small regular file; the last part of its path must be no symlink."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | _FLAGS
    fd, found = _checked(os.open(step["path"], flags, step["mode"]))
    try:
        os.ftruncate(fd, 0)
        os.write(fd, step["content"].encode())
    finally:
        os.close(fd)
    return -1, found


def remove(step: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Unlink a small regular file that holds `content`; one with another content is somebody else's."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | _FLAGS
    fd, found = _checked(os.open(step["path"], flags))
    try:
        if os.read(fd, 4096) != step["content"].encode():
            raise _Not(errno.EEXIST, "it holds something else by now")
    finally:
        os.close(fd)
    os.unlink(step["path"])
    return -1, found


def rename(step: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Rename a file, over what has the new name."""
    os.rename(step["path"], step["to"])
    return -1, {}


def unlink_socket(step: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Unlink the socket that was bound there, if it is that one still."""
    found = os.lstat(step["path"])
    if not stat.S_ISSOCK(found.st_mode) or (found.st_dev, found.st_ino) != (step["device"], step["inode"]):
        raise _Not(errno.EEXIST, "it is another one by now")
    os.unlink(step["path"])
    return -1, {}


def open_fifo(step: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Open a FIFO, made if nothing is there. Both ways, so that the last writer's close is no end of file."""
    with contextlib.suppress(FileExistsError):
        os.mkfifo(step["path"], 0o600)
    found = os.lstat(step["path"])
    if not stat.S_ISFIFO(found.st_mode):
        raise _Not(errno.EEXIST, "something else is there, and it is no FIFO")
    fd = os.open(step["path"], os.O_RDWR | os.O_NOFOLLOW | _FLAGS)
    status = os.fstat(fd)
    if not stat.S_ISFIFO(status.st_mode):
        os.close(fd)
        raise _Not(errno.EEXIST, "something else has come there, and it is no FIFO")
    return fd, {"device": status.st_dev, "inode": status.st_ino}


def remove_fifo(step: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Unlink the FIFO that was made there, if it is that one still."""
    found = os.lstat(step["path"])
    if not stat.S_ISFIFO(found.st_mode) or (found.st_dev, found.st_ino) != (step["device"], step["inode"]):
        raise _Not(errno.EEXIST, "it is another one by now")
    os.unlink(step["path"])
    return -1, {}


def bind_unix(step: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Listen at a path, or at an abstract name ("\\0…"). A stale socket is replaced, a living one never."""
    path: str = step["path"]
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    with contextlib.closing(sock):
        abstract = path.startswith("\0")
        if not abstract and is_stale(path):
            os.unlink(path)
        os.umask(
            0o777 & ~step["mode"]
        )  # the mode from the beginning: between bind and chmod anybody could connect
        try:
            sock.bind(path)
        finally:
            os.umask(0)
        found: dict[str, Any] = {"address": path}
        if not abstract:
            status = os.lstat(path)
            found |= {"device": status.st_dev, "inode": status.st_ino}
            try:
                _own(step)
            except OSError:
                os.unlink(path)
                raise
        sock.listen(step["backlog"])
        return sock.detach(), found


def dress_socket(step: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Another mode, owner and group for a socket that is there."""
    found = os.lstat(step["path"])
    if (found.st_dev, found.st_ino) != (step["device"], step["inode"]):
        raise _Not(errno.EEXIST, "it is another one by now")
    # Between the two nobody new may come in.
    os.chmod(step["path"], step["mode"] & found.st_mode & 0o777)
    _own(step)
    os.chmod(step["path"], step["mode"])
    return -1, {}


def bind_tcp(step: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Listen at a numeric address and port; port 0 lets the kernel choose."""
    host: str = step["host"]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    with contextlib.closing(sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, step["port"]))
        sock.listen(step["backlog"])
        address = list(sock.getsockname()[:2])
        return sock.detach(), {"address": address}


STEPS: dict[str, Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]] = {
    "append": append,
    "read": read,
    "write": write,
    "remove": remove,
    "rename": rename,
    "unlink-socket": unlink_socket,
    "open-fifo": open_fifo,
    "remove-fifo": remove_fifo,
    "bind-unix": bind_unix,
    "dress-socket": dress_socket,
    "bind-tcp": bind_tcp,
}
"""Step → what it does: (a descriptor or -1, what else there is to tell). Raises OSError."""


def main() -> NoReturn:
    """Serve one message at descriptor 3, and end."""
    channel = Channel(socket.socket(fileno=CHANNEL_FD))
    try:
        message, _ = channel.receive_wait(30.0)
    except (ChannelClosed, TimeoutError):
        sys.exit(0)
    fds: list[int] = []
    try:
        os.umask(0)
        os.chdir("/")
        if message["uid"] is not None or message["gid"] is not None:
            drop(message["uid"], message["gid"])
        answer: dict[str, Any] = {
            "ok": True,
            "outcomes": [_carry_out(step, fds) for step in message["steps"]],
        }
    except PrivilegeError as error:
        answer = {"ok": False, "error": str(error)}
    channel.send(answer, fds)
    channel.flush_wait(30.0)
    sys.exit(0)


def _carry_out(step: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    try:
        fd, found = STEPS[step["op"]](step)
    except (OSError, ValueError) as error:
        code = error.errno or 0 if isinstance(error, OSError) else errno.EINVAL
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        return {"ok": False, "errno": code, "error": reason}
    if fd >= 0:
        fds.append(fd)
    return {"ok": True, "fd": fd >= 0, **found}


def _regular(path: str) -> None:
    """Look before opening: to open a device may already do something."""
    with contextlib.suppress(FileNotFoundError):
        _check_regular(os.stat(path))


def _checked(fd: int) -> tuple[int, dict[str, Any]]:
    status = os.fstat(fd)
    try:
        _check_regular(status)
    except OSError:
        os.close(fd)
        raise
    return fd, {"device": status.st_dev, "inode": status.st_ino, "size": status.st_size}


def _check_regular(status: os.stat_result) -> None:
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFLNK: "a symlink",
    }
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        raise _Not(errno.EINVAL, f"it is {kinds.get(kind, 'a device')}, and only a regular file will do")


def _own(step: dict[str, Any]) -> None:
    owner, group = step["owner"], step["group"]
    if owner is None and group is None:
        return
    try:
        os.chown(
            step["path"],
            -1 if owner is None else owner,
            -1 if group is None else group,
            follow_symlinks=False,
        )
    except PermissionError as error:
        raise _Not(
            error.errno,
            f"it cannot be given to {owner or ''}:{group}: only root may, and to groups that one is in",
        ) from error
