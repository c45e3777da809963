"""The listeners that all vassals share: which there are to be, what holds at them, and how they are opened.

Those of a vassal's own are the matter of `doors`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from emperor import privileges
from emperor.config.remote import SCHEME
from emperor.config.settings import EmperorSettings
from emperor.supervisor import sockets
from emperor.supervisor.keyring import WORKERS
from emperor.supervisor.routers import Listener, Logger
from emperor.supervisor.rundir import RunDir
from emperor.supervisor.sockets import Address, BindError
from emperor.supervisor.succession import Routers


class SharedListeners:
    """Those of one emperor, as its settings say."""

    def __init__(self, said: EmperorSettings, run_dir: RunDir, routers: Routers, log: Logger) -> None:
        self._said = said
        self._run_dir = run_dir
        self._routers = routers
        self._log = log
        self.http = tuple(Address.parse(each) for each in said.http)

    def wanted(self) -> list[tuple[str, Address]]:
        """By kind and address."""
        found = [("http", address) for address in self.http]
        found += [("uwsgi", Address(path=self._run_dir.uwsgi))]
        found += [("uwsgi", Address.parse(each)) for each in self._said.uwsgi]
        found += [("subscription", Address.parse(each)) for each in self._said.subscription_server]
        if self._said.backplane is not None:
            found.append((WORKERS, Address.parse(self._said.backplane.removeprefix(SCHEME))))
        return found

    def places(self) -> set[tuple[str, str]]:
        """The same, as `Listener` spells it."""
        return {(kind, str(address)) for kind, address in self.wanted()}

    def open(self, handed: Iterable[Listener]) -> list[Listener]:
        """Bind what a router has not handed back: all that the next one has to be told. Raises BindError, and then nothing
        new is open."""
        before = {(each.kind, each.address): each for each in handed}
        terms = self._terms()
        found: list[Listener] = []
        bound: list[Listener] = []
        try:
            mode, user, group = self._dress()
            for kind, address in dict.fromkeys(self.wanted()):
                known = before.get((kind, str(address)))
                if known is None:
                    sock = sockets.open_at(kind, address, mode)
                    bound.append(Listener(kind, str(address), sock, terms=terms))
                    found.append(bound[-1])
                elif known.terms != terms:
                    found.append(Listener(kind, str(address), known.sock, terms=terms))
                if address.path:
                    sockets.dress(address.path, mode, user, group)
        except BindError:
            for each in bound:
                each.sock.close()
            raise
        return found

    def resume(self, handed: Iterable[Listener]) -> None:
        """Go on with those that the program before us in this process had: what is not wanted any more is closed, and what is
        new is opened, if it can be. Raises BindError for an owner that there is not."""
        terms = self._terms()
        wanted = {(kind, str(address)): address for kind, address in self.wanted()}
        known = {(each.kind, each.address): each for each in handed}
        for place in known.keys() - wanted.keys():
            self._routers.unlisten(known[place])
        mode, user, group = self._dress()
        for (kind, text), address in wanted.items():
            before = known.get((kind, text))
            try:
                sock = sockets.open_at(kind, address, mode) if before is None else before.sock
                if address.path:
                    sockets.dress(address.path, mode, user, group)
            except BindError as error:
                self._log.error(str(error))
                continue
            if before is None or before.terms != terms:
                self._routers.listen(Listener(kind, text, sock, terms=terms))

    def listen_again(self, listener: Listener) -> None:
        """Another socket for one whose path has vanished. Raises BindError."""
        mode, user, group = self._dress()
        address = Address.parse(listener.address)
        sock = sockets.listen(address, mode)
        sockets.dress(address.path, mode, user, group)
        self._routers.listen(replace(listener, sock=sock))
        listener.sock.close()

    def _terms(self) -> dict[str, Any]:
        """What holds at them (`emperor.router.terms.Terms`)."""
        said = self._said
        return {
            "vassal": "",
            "forwarded": list(said.forwarded_allow),
            "fields": sorted(said.forwarded_fields),
            "trusted": list(said.uwsgi_trusted),
            "proxies": list(said.proxy_protocol),
            "backlog": sockets.BACKLOG,
            "tls": False,
            "ciphers": "",
            "note": "",
            "among": said.routers,
        }

    def _dress(self) -> tuple[int, int | None, int | None]:
        """Mode, owner and group of their unix sockets. Raises BindError."""
        said = self._said
        user, _, group = (said.chown_socket or "").partition(":")
        try:
            return (
                int(said.chmod_socket, 8),
                privileges.resolve_user(user, "chown-socket").uid if user else None,
                privileges.resolve_group(group, "chown-socket").gid if group else None,
            )
        except privileges.PrivilegeError as error:
            raise BindError(str(error)) from error
