"""The files that one reading of a vassal looks at: the thin edge below the dialect.

Regular files only, never waiting for one; so many, so large; each with the rights of whoever named it
(`emperor.config.rights`). Every path that was looked at is remembered with whoever asked, found or not, since
a change of any may change what the vassal is.
"""

import errno
import fnmatch
import os
import stat
from dataclasses import dataclass

from emperor.config import rights
from emperor.config.entries import Owner
from emperor.config.problems import Mistake, Source

SIZE_LIMIT = 1024 * 1024
_MOST_FILES = 64
_MOST_BYTES = 4 * SIZE_LIMIT
_MOST_LOOKED_AT = 20_000


@dataclass(frozen=True)
class Content:
    """What a file held, whose rights what it names is read with, and its inode."""

    data: bytes
    owner: Owner | None
    inode: int


class Files:
    """`asked` is every path looked at, in order, each once, with the one who asked."""

    def __init__(self) -> None:
        self.asked: dict[str, Owner | None] = {}
        self._files = 0
        self._bytes = 0
        self._looked_at = 0

    @property
    def sources(self) -> tuple[Source, ...]:
        """The same, for whoever looks there again."""
        return tuple(Source(path, None if asker is None else asker.uid) for path, asker in self.asked.items())

    def read(self, path: str, asker: Owner | None = None) -> Content:
        """The content of a regular file, as `asker` may read it. Raises `Mistake` with the reason, which
        begins after the path.
        """
        self._note(path, asker)
        self._files += 1
        if self._files > _MOST_FILES:
            raise Mistake(f"is one file too many: at most {_MOST_FILES} are read for one vassal")
        try:
            descriptor = rights.open_file(path, asker)
        except (FileNotFoundError, NotADirectoryError):
            raise Mistake("is not there, or no longer") from None
        except OSError as error:
            user = f" as user {asker.uid}, whose file names it" if asker else ""
            raise Mistake(f"cannot be read{user}: {error.strerror}") from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Mistake("is not a regular file")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data: bytes | None = file.read(SIZE_LIMIT + 1)
        except OSError as error:
            raise Mistake(f"cannot be read: {error.strerror}") from None
        finally:
            os.close(descriptor)
        if data is None:  # it was opened not to wait: some files of the kernel's would
            raise Mistake("cannot be read: it has nothing to read at the moment")
        if len(data) > SIZE_LIMIT:
            raise Mistake(f"has more than {SIZE_LIMIT} bytes")
        self._bytes += len(data)
        if self._bytes > _MOST_BYTES:
            raise Mistake(f"is too much: at most {_MOST_BYTES} bytes are read for one vassal")
        # What a tenant's file includes speaks for the tenant, whoever wrote it: its `@(…)` must not fetch
        # for him what he may not read.
        return Content(data, asker or rights.owner_of(status.st_uid), status.st_ino)

    def exists(self, path: str, asker: Owner | None) -> bool:
        """Whether there is something that `asker` may read."""
        return self._look(path, asker) is not None

    def is_file(self, path: str, asker: Owner | None) -> bool:
        mode = self._look(path, asker)
        return mode is not None and stat.S_ISREG(mode)

    def is_directory(self, path: str, asker: Owner | None) -> bool:
        mode = self._look(path, asker)
        return mode is not None and stat.S_ISDIR(mode)

    def glob(self, pattern: str, directory: str, asker: Owner | None) -> list[str]:
        """The paths that `pattern` stands for, sorted, as they would be written; directories end in a slash.
        Relative patterns start at `directory`. Raises `Mistake` where there is too much to look at.
        """
        parts = pattern.split("/")
        found = ["/"] if pattern.startswith("/") else [""]
        try:
            with rights.as_owner(asker):
                for part in filter(None, parts):
                    found = self._matching(found, part, directory, asker)
                # Still as the asker: a link would be followed.
                return sorted(
                    path + "/" if os.path.isdir(os.path.join(directory, path)) else path
                    for path in found
                    if path
                )
        except PermissionError as error:
            raise Mistake(f"{pattern} cannot be looked at: {error.strerror}") from None

    def _matching(self, above: list[str], part: str, directory: str, asker: Owner | None) -> list[str]:
        matching = []
        for prefix in above:
            place = os.path.join(directory, prefix)
            if not any(character in part for character in "*?["):
                self._count()
                if os.path.lexists(os.path.join(place, part)):
                    matching.append(os.path.join(prefix, part))
                continue
            self._note(os.path.normpath(place), asker)
            try:
                with os.scandir(place) as entries:
                    for entry in entries:
                        self._count()
                        hidden = entry.name.startswith(".") and not part.startswith(".")
                        if not hidden and fnmatch.fnmatchcase(entry.name, part):
                            matching.append(os.path.join(prefix, entry.name))
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                    raise Mistake(f"{place} cannot be looked at: {error.strerror}") from None
        return matching

    def _look(self, path: str, asker: Owner | None) -> int | None:
        self._note(path, asker)
        self._count()
        try:
            with rights.as_owner(asker):
                mode = os.stat(path).st_mode
                return mode if os.access(path, os.R_OK, effective_ids=True) else None
        except OSError:
            return None

    def _note(self, path: str, asker: Owner | None) -> None:
        if path in self.asked:
            # Asked by two, it is looked at with the rights of the emperor, if those were lent to one.
            self.asked[path] = self.asked[path] and asker
        elif len(self.asked) < 1000:
            self.asked[path] = asker

    def _count(self) -> None:
        self._looked_at += 1
        if self._looked_at > _MOST_LOOKED_AT:
            raise Mistake(f"more than {_MOST_LOOKED_AT} names to look at", "name fewer, or a directory below")
