"""The vassals' files: what a change of one means, and reading it, at a change or because somebody asks for it.

What the monitor has seen is compared with what serves: a vassal that was taken over, and whose file is what it was, is left
alone. An edit may have to wait (`edits`). What a file says is told to the supervisor, which decides what becomes of it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from emperor import privileges
from emperor.config import ConfigError
from emperor.config.problems import Source
from emperor.config.settings import Settings
from emperor.monitors.places import Places
from emperor.monitors.scan import Change, Identity, Kind
from emperor.supervisor import edits, interpreter
from emperor.supervisor.reader import Reader
from emperor.supervisor.reading import Reading
from emperor.supervisor.supervisor import Supervisor
from emperor.supervisor.triggers import Triggers
from emperor.supervisor.vassal import State


class Logger(Protocol):
    """What is needed of `emperor.log.Log`."""

    def warning(self, text: str) -> None: ...


class Monitor(Protocol):
    """What is needed of `DirectoryMonitor`."""

    def also(self, file: str, sources: Iterable[Source]) -> None: ...
    def knows(self, file: str) -> bool: ...
    def sees(self, file: str) -> bool: ...


class Files:
    """Those of one emperor. `fault` is told what we cannot cope with; `stays(s)` that vassals may take so long to leave."""

    def __init__(
        self,
        settings: Settings,
        places: Places,
        supervisor: Supervisor,
        reader: Reader,
        triggers: Triggers,
        monitor: Monitor,
        log: Logger,
        fault: Callable[[Exception], None],
        stays: Callable[[float], None],
    ) -> None:
        self._places = places
        self._supervisor = supervisor
        self._reader = reader
        self._triggers = triggers
        self._monitor = monitor
        self._log = log
        self._fault = fault
        self._stays = stays
        self._identities: dict[str, Identity] = {}
        self._identities_before: dict[str, Identity] = {}
        self._former: set[str] = set()  # files that the emperor before us knew
        self.only: str | None = None
        """The one that there was at the start, when it was alone."""
        self._use_modes(settings)

    def use(self, settings: Settings) -> None:
        """These settings count from now on."""
        self._reader.use(settings)
        self._use_modes(settings)

    def _use_modes(self, settings: Settings) -> None:
        """What `auto-reload` says of each place."""
        places = [place.path for place in self._places.places]
        self._modes = edits.Modes(settings.emperor.auto_reload, places)
        for warning in self._modes.warnings:
            self._log.warning(warning)

    def __contains__(self, file: str) -> bool:
        return file in self._identities

    @property
    def all(self) -> list[str]:
        return sorted(self._identities)

    # -- what an emperor before us knew -------------------------------------------------------------------

    def remember(self, files: Iterable[str], only: str | None) -> None:
        """An emperor before us knew these."""
        self._former.update(files)
        self.only = only

    def hand_over(self) -> dict[str, Any]:
        """For `resume` of another program in this process. `well` are files that were right when they were read last."""
        return {
            "only": self.only,
            "identities": {file: each.to_json() for file, each in self._identities.items()},
            "well": [
                file
                for file, each in self._supervisor.vassals.items()
                if each.wish is not None and not each.problem and not each.pending and file in self
            ],
        }

    def resume(self, document: Mapping[str, Any]) -> None:
        """This is what the program before us knew, as does the supervisor now. Raises KeyError, ValueError."""
        self._identities_before = _identities(document)
        self.remember(self._supervisor.vassals, document["only"])

    def rehearse(self, document: Mapping[str, Any]) -> None:
        """As the trial of a version that is to take over: know what it would know. Raises KeyError, ValueError."""
        self._identities = _identities(document)

    # -- changes ------------------------------------------------------------------------------------------

    def take(self, changes: Sequence[Change], first: bool) -> None:
        """This has changed; `first`: it is all that there is at the start."""
        if first:
            self._first(changes)
        for change in changes:
            by = "the start" if first else "a new file" if change.kind is Kind.NEW else "an edit of its file"
            try:
                self._take(change, by, first)
            except Exception as error:
                # One file that we cannot cope with must not be the end of all others.
                self._fault(error)

    def _first(self, changes: Sequence[Change]) -> None:
        for text in self._places.unread():
            self._log.warning(text)
        files = {change.file for change in changes}
        if self.only is None and not self._former and len(files) == 1:
            (self.only,) = files
        self._supervisor.only(self.only)
        for file in sorted(self._supervisor.vassals.keys() - files):
            if self._monitor.knows(file) and not self._monitor.sees(file):
                self._supervisor.removed(file)

    def _take(self, change: Change, by: str, first: bool) -> None:
        if change.kind is Kind.REMOVED:
            self._identities.pop(change.file, None)
            self._triggers.want(change.file, None)
            self._supervisor.removed(change.file)
            return
        assert change.identity is not None
        self._identities[change.file] = change.identity
        if self._serves_this(change.file, change.identity, first):
            wish = self._supervisor.vassals[change.file].wish
            self._monitor.also(change.file, wish.others if wish is not None else ())
            self._triggers.want(change.file, wish)
        elif self._waits(change, first):
            self._triggers.want(change.file, self._supervisor.vassals[change.file].wish)
        else:
            self.read(change.file, by, live=True)

    def _serves_this(self, file: str, identity: Identity, first: bool) -> bool:
        """True for a vassal that was taken over and whose file is what it was then."""
        before = self._identities_before.pop(file, None)
        if before is None and not first:
            return False
        vassal = self._supervisor.vassals.get(file)
        if before is not None and vassal is not None:
            # The program before us in this process knew it: what it was then counts, whatever has become of that.
            return before == identity and (vassal.wish is None or self._others_are_same(vassal.wish))
        return (
            vassal is not None
            and vassal.state in (State.READY, State.STARTING)
            and vassal.wish is not None
            and vassal.wish.identity == identity
            and vassal.wish.path == self._places.path(file)
            and self._others_are_same(vassal.wish)
        )

    def _others_are_same(self, reading: Reading) -> bool:
        return reading.others_digest == self._reader.digest_of(reading.others)

    def _waits(self, change: Change, first: bool) -> bool:
        """True for an edit that is not to be in effect before somebody asks for it; what there is to say of it is said."""
        file = change.file
        place, vassal = self._places.place(file), self._supervisor.vassals.get(file)
        # One that had gone, and is back, starts. At the start of an emperor that took it over, what it was started from counts.
        if place is None or vassal is None or vassal.wish is None or (change.kind is Kind.NEW and not first):
            return False
        said = self._modes.judge(place.path, lambda: self._check(file))
        if said:
            self._supervisor.edited(file, said)
        return bool(said)

    # -- reading ------------------------------------------------------------------------------------------

    def read(self, file: str, by: str, rolling: bool = False, live: bool = False) -> None:
        """Read it, and tell the supervisor what it says or what is wrong; `rolling`: worker by worker, whatever it says;
        `live`: without a reload, if that will do."""
        path = self._places.path(file)
        try:
            self._read(file, path, by, rolling, live)
        except Exception as error:
            # One file that we cannot cope with must not be the end of all others.
            self._fault(error)
            text = f"{path}: a fault of the emperor's, please report: {error!r}"
            self._supervisor.wrong(file, path, text, by=by)

    def _read(self, file: str, path: str, by: str, rolling: bool, live: bool) -> None:
        try:
            reading, warnings = self._reader.read(file, self._identities[file])
        except ConfigError as error:
            self._monitor.also(file, error.sources)
            self._supervisor.wrong(file, path, str(error), by=by)
        except (interpreter.WrongInterpreter, privileges.PrivilegeError) as error:
            self._supervisor.wrong(file, path, f"{path}: {error}", by=by)
        else:
            for warning in warnings:
                self._log.warning(warning)
            self._stays(reading.stop_timeout_s)
            self._supervisor.checked(reading, warnings, by, rolling, live)
            self._triggers.want(file, reading)

    def _check(self, file: str) -> None:
        """Read a file as for a reload, without one. Raises ValueError with all that is wrong."""
        try:
            self._reader.read(file, self._identities[file])
        except (ConfigError, interpreter.WrongInterpreter, privileges.PrivilegeError) as error:
            raise ValueError(str(error)) from error

    def check_unless_edited(self, file: str) -> None:
        """Read a file as for a reload, unless it is another one than was read before: somebody is about to edit it, and it is
        judged when it is taken up. Raises ValueError."""
        known = self._identities[file]
        with contextlib.suppress(OSError):
            found = os.stat(self._places.path(file))
            if (found.st_dev, found.st_ino, found.st_mtime_ns) != (known.device, known.inode, known.mtime_ns):
                return
        self._check(file)


def _identities(document: Mapping[str, Any]) -> dict[str, Identity]:
    """Raises KeyError, ValueError."""
    return {file: Identity.from_json(each) for file, each in document["identities"].items()}
