"""From a vassal's file to its `Reading`: the file and all that it names are read, and what the emperor itself has to say of it
is said: whose it may not be, and which interpreter it needs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from emperor import privileges
from emperor.config import ConfigError, load_vassal, rights
from emperor.config.problems import Problem, Source
from emperor.config.settings import Settings, layers_of
from emperor.monitors.directory import read_digest
from emperor.monitors.places import Places
from emperor.monitors.scan import Identity
from emperor.supervisor import interpreter
from emperor.supervisor.reading import Reading
from emperor.supervisor.sharedout import warnings_of


class Reader:
    """`also(file, sources)` is told what else a file was read from; `router_uids()` is whom routers run as;
    `single`: it is one app that a user serves, and may be root's."""

    def __init__(
        self,
        settings: Settings,
        places: Places,
        single: bool,
        also: Callable[[str, Iterable[Source]], None],
        router_uids: Callable[[], set[int]],
    ) -> None:
        self._places = places
        self._single = single
        self._also = also
        self._router_uids = router_uids
        self.use(settings)

    def use(self, settings: Settings) -> None:
        """These settings count from now on."""
        self._layers = layers_of(settings.emperor, settings.origins)
        self._refuse_root = settings.emperor.refuse_root
        self._routers = settings.emperor.routers

    def digest_of(self, others: Iterable[Source]) -> str:
        """What a vassal is read from beside its own file: an emperor that takes over compares it."""
        parts = [repr(self._layers), *(f"{each.path} {read_digest(*each)}" for each in others)]
        return hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()

    def read(self, file: str, identity: Identity) -> tuple[Reading, list[str]]:
        """Read and check one file; with it, what is worth a warning. Raises ConfigError, WrongInterpreter, PrivilegeError."""
        path = self._places.path(file)
        try:
            name = self._places.name(file)
        except ValueError as error:
            raise ConfigError([Problem(path, None, None, str(error), "rename it")]) from None
        config = load_vassal(
            Path(path), directory=Path(self._places.directory(file)), layers=self._layers, name=name
        )
        others = tuple(
            sorted((each for each in config.sources if each.path != path), key=lambda each: each.path)
        )
        self._also(file, others)
        warnings = [str(each) for each in config.warnings]
        if os.geteuid() == 0 and config.uid in (None, 0) and not self._single and not config.elsewhere:
            warnings.append(f"{path}: uid: runs as root, since it names no other user (set uid = NAME)")
        warnings += [f"{path}: {each}" for each in warnings_of(config.balancing, self._routers)]
        self._check_user(config.uid)
        reading = Reading(
            name=config.name,
            file=file,
            path=path,
            identity=identity,
            app=config.app,
            uid=config.uid,
            gid=config.gid,
            processes=config.processes,
            engine=config.engine,
            domains=config.domains,
            default=config.default,
            need_app=config.need_app,
            argv=interpreter.argv_of(
                config.app.virtualenv, config.spawn, rights.owner_of(config.uid or 0, config.gid)
            ),
            queue=config.queue,
            queue_timeout_s=config.queue_timeout_s,
            request_timeout_s=config.request_timeout_s,
            body_limit=config.body_limit,
            request_buffering=config.request_buffering,
            post_buffering=config.post_buffering,
            response_buffer=config.response_buffer,
            start_timeout_s=config.start_timeout_s,
            stop_timeout_s=config.stop_timeout_s,
            access=config.access,
            request_id=config.request_id,
            logto=config.logto,
            log_max_bytes=config.log_max_bytes,
            log_backup=config.log_backup,
            pidfile=config.pidfile,
            others=others,
            others_digest=self.digest_of(others),
            listening=config.listening,
            announcing=config.announcing,
            manage_script_name=config.manage_script_name,
            deadlines=config.deadlines,
            balancing=config.balancing,
            recycling=config.recycling,
            hooks=config.hooks,
            preload=config.preload,
            warm_up=config.warm_up,
            reloading=config.reloading,
            routers=config.routers,
            remote=config.remote,
            upstreams=config.upstreams,
            sharing=config.sharing,
        )
        return reading, warnings

    def _check_user(self, uid: int | None) -> None:
        """Raises PrivilegeError."""
        own = os.geteuid()
        if own != 0 and uid not in (None, own):
            raise privileges.PrivilegeError(
                f"uid: {uid} is another user, and the emperor runs as {own}: start it as root, or remove uid"
            )
        if own == 0 and uid in (None, 0) and self._refuse_root:
            raise privileges.PrivilegeError(
                "uid: would run as root, and refuse-root is set: set uid = NAME of another user"
            )
        if own == 0 and uid is not None and uid in self._router_uids():
            raise privileges.PrivilegeError(
                f"uid: {uid} is the user that the router runs as, and the app could stop the router for all: "
                "set uid to a user of its own, or start the emperor with another --router-user"
            )
