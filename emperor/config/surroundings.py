"""What a value refers to must exist: paths, users and groups, looked up when the file is read.

Found here, it is an error with a line; found later, it is a worker that dies with a traceback. Relative paths
start at a directory that the file implies (its own, or its `chdir`), whatever the emperor's own directory is.
All is looked at as `owner`, who says the value: a tenant would learn of other places by what is an error.
"""

import grp
import os
import pwd
import stat

from emperor.config import rights
from emperor.config.entries import Owner
from emperor.config.files import Files
from emperor.config.problems import Mistake

# The largest id is "no change" to chown(2) and setresuid(2).
_MOST_ID = 2**32 - 2

_ROOTS_WORD = "say it in a file of root's, or with the emperor's vassal-set"


def absolute(value: str, directory: str) -> str:
    """`value` as an absolute path without ``.`` and ``..``; links are left alone."""
    return os.path.normpath(os.path.join(directory, value))


def directory(value: str, parent: str, owner: Owner | None = None) -> str:
    """The absolute path of a directory that exists."""
    path = absolute(value, parent)
    if not stat.S_ISDIR(_mode(path, "directory", owner)):
        raise Mistake(f"{path} is not a directory")
    return path


def file(value: str, parent: str, owner: Owner | None = None) -> str:
    """The absolute path of a file that exists."""
    path = absolute(value, parent)
    if not stat.S_ISREG(_mode(path, "file", owner)):
        raise Mistake(f"{path} is not a file")
    return path


def virtualenv(value: str, parent: str, owner: Owner | None = None) -> str:
    """The absolute path of a virtualenv: a directory with a pyvenv.cfg or an interpreter in it."""
    path = directory(value, parent, owner)
    if not any(exists(os.path.join(path, inside), owner) for inside in ("pyvenv.cfg", "bin/python")):
        raise Mistake(f"{path} is no virtualenv: it has neither pyvenv.cfg nor bin/python")
    return path


def directories(value: str, parent: str, files: Files, owner: Owner | None = None) -> tuple[str, ...]:
    """The absolute paths that a directory, or a pattern with * and ? in its last part, stands for; empty
    if there is none. `files` counts what is looked at.
    """
    path = absolute(value, parent)
    if exists(path, owner):
        return (path,)
    # One directory is read, whatever a tenant writes: the emperor does not walk the disk for /*/*/*/*.
    above, last = os.path.split(path)
    return tuple(os.path.join(above, name.rstrip("/")) for name in files.glob(last, above, owner))


def exists(path: str, owner: Owner | None) -> bool:
    """Whether `owner` sees something there."""
    try:
        _mode(path, "", owner)
    except Mistake:
        return False
    return True


def user(value: str, owner: Owner | None = None) -> tuple[int, int | None]:
    """The uid that a name or number stands for, and its own gid if the system knows the user. `owner`, who says so,
    speaks for himself alone.
    """
    try:
        entry = pwd.getpwuid(_number(value)) if _is_number(value) else pwd.getpwnam(value)
        uid, gid = entry.pw_uid, entry.pw_gid
    except KeyError:
        if not _is_number(value):
            raise Mistake(f"there is no user {value!r}") from None
        uid, gid = _number(value), None
    if owner is not None and uid != owner.uid:
        raise Mistake(f"{value} is another user than {owner.uid}, whose file says so", _ROOTS_WORD)
    return uid, gid


def group(value: str, owner: Owner | None = None) -> int:
    """The gid that a name or number stands for. `owner`, who says so, speaks for groups that he is in."""
    try:
        found = _number(value) if _is_number(value) else grp.getgrnam(value).gr_gid
    except KeyError:
        raise Mistake(f"there is no group {value!r}") from None
    if owner is not None and found not in _groups_of(owner.uid):
        raise Mistake(f"{value} is no group of user {owner.uid}, whose file says so", _ROOTS_WORD)
    return found


def _groups_of(uid: int) -> list[int]:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        # A user whom the system knows by number alone has the group of that number, if that is nobody's.
        try:
            grp.getgrgid(uid)
        except KeyError:
            return [uid]
        return []
    return os.getgrouplist(entry.pw_name, entry.pw_gid)


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdigit()


def _number(value: str) -> int:
    if len(value) > 10 or int(value) > _MOST_ID:
        raise Mistake(f"{value[:20]} is no id: at most {_MOST_ID}")
    return int(value)


def _mode(path: str, what: str, owner: Owner | None) -> int:
    try:
        with rights.as_owner(owner):
            return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise Mistake(f"there is no {what} {path}") from None
    except OSError as error:
        raise Mistake(f"{path} cannot be looked at: {error.strerror}") from None
