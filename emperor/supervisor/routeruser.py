"""Whom the routers run as."""

from __future__ import annotations

import os
from typing import Protocol

from emperor import privileges


class Logger(Protocol):
    """What is needed of `emperor.log.Log`."""

    def warning(self, text: str) -> None: ...


def router_user(named: str | None, log: Logger) -> privileges.User | None:
    """Whom a router becomes, `named` by the setting router-user; None: it stays who we are. Raises PrivilegeError."""
    own = os.geteuid()
    try:
        user = privileges.resolve_user(named or "nobody", "router-user")
    except privileges.PrivilegeError:
        if named is not None:
            raise
        if own == 0:
            log.warning("there is no user nobody: the router runs as root (name one with --router-user)")
        return None
    if own == 0:
        if user.uid == 0:
            log.warning("router-user: the router runs as root")
        return user
    if named is not None and user.uid != own:
        raise privileges.PrivilegeError(
            f"router-user: cannot become {named}, running as uid {own}: start the emperor as root, or remove it"
        )
    return None
