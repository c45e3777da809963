"""Who a process runs as: names to numbers, and the one-way step down from root.

A process drops in one place, at its start, after every descriptor that it should not have is closed. Each
step is checked afterwards, since a drop that did not happen shows nowhere else: the app would simply run as
root.
"""

from __future__ import annotations

import os
from typing import NamedTuple


class PrivilegeError(ValueError):
    """A user or group that does not exist, or that we cannot become. The text begins with the option's
    name."""


class User(NamedTuple):
    """A user: `name` and `gid` (of its passwd entry) are None for a number without an entry."""

    uid: int
    name: str | None
    gid: int | None


class Group(NamedTuple):
    """A group: `name` is None for a number without an entry."""

    gid: int
    name: str | None


def resolve_user(text: str, key: str = "uid") -> User:
    """A user's name or number → `User`. Raises PrivilegeError."""
    import pwd

    try:
        entry = pwd.getpwuid(_number(text, key)) if _is_number(text) else pwd.getpwnam(text)
    except KeyError:
        if _is_number(text):
            return User(int(text), None, None)
        raise PrivilegeError(
            f"{key}: there is no user {text!r} on this machine: create it or name another"
        ) from None
    return User(entry.pw_uid, entry.pw_name, entry.pw_gid)


def resolve_group(text: str, key: str = "gid") -> Group:
    """A group's name or number → `Group`. Raises PrivilegeError."""
    import grp

    try:
        entry = grp.getgrgid(_number(text, key)) if _is_number(text) else grp.getgrnam(text)
    except KeyError:
        if _is_number(text):
            return Group(int(text), None)
        raise PrivilegeError(
            f"{key}: there is no group {text!r} on this machine: create it or name another"
        ) from None
    return Group(entry.gr_gid, entry.gr_name)


def drop(uid: int | None, gid: int | None, name: str | None = None) -> None:
    """Become `uid` and `gid` for good; None keeps what is.

    With `name` the user's supplementary groups are taken on, else there are none left. Without `gid` the
    group is that of the user's passwd entry. Nothing to change is no error, whoever we are. Raises
    PrivilegeError, also when root could be had back.
    """
    if uid is None and gid is None:
        return
    if uid is not None and (name is None or gid is None):
        known = resolve_user(str(uid))
        name = known.name if name is None else name
        gid = known.gid if gid is None else gid
        if gid is None:
            raise PrivilegeError(f"gid: user {uid} has no passwd entry to take a group from: set gid too")
    target_uid = os.getuid() if uid is None else uid
    assert gid is not None
    if os.geteuid() != 0:
        if {os.getuid(), os.geteuid()} == {target_uid} and {os.getgid(), os.getegid()} == {gid}:
            return
        same_user = target_uid == os.geteuid()
        key, wanted, have = ("gid", gid, os.getegid()) if same_user else ("uid", target_uid, os.geteuid())
        raise PrivilegeError(
            f"{key}: cannot become {wanted}, running as {key} {have}: "
            f"start the emperor as root, or remove {key}"
        )
    try:
        if name is not None:
            os.initgroups(name, gid)
        else:
            os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(target_uid, target_uid, target_uid)
    except OSError as error:
        raise PrivilegeError(
            f"uid: cannot become uid {target_uid}, gid {gid}: {error.strerror} "
            "(in a container: is that id mapped, are CAP_SETUID and CAP_SETGID there?)"
        ) from error
    _check(target_uid, gid)


def _check(uid: int, gid: int) -> None:
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid):
        raise PrivilegeError(
            f"uid: after the change to {uid}:{gid} we are {os.getresuid()}:{os.getresgid()}: "
            "nothing runs like this"
        )
    if uid == 0:
        return
    for become in (os.setuid, os.seteuid):
        try:
            become(0)
        except PermissionError:
            continue
        raise PrivilegeError(f"uid: root can be had back after the change to {uid}: nothing runs like this")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _number(text: str, key: str) -> int:
    number = int(text)
    if number >= 2**32 - 1:  # (uid_t) -1 means "leave as it is" to the system calls
        raise PrivilegeError(f"{key}: {text} is no user or group number")
    return number
