"""The trial of a version that is to take over: it looks at everything and changes nothing.

It runs in a process of its own, with what would be handed over, while the emperor whose place it is to take governs on. What
it finds wrong is told to the operator, and then there is no exec.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from emperor import __version__
from emperor.supervisor import process, sockets
from emperor.supervisor.process import Exit, StartError
from emperor.supervisor.rundir import RunDir
from emperor.supervisor.sockets import Address, BindError
from emperor.supervisor.statefile import GenerationState

MODULES = ("emperor.router.main", "vassals.spawner", "vassals.gateway.main", "vassals.worker.main")
"""What this version starts beside itself."""

SAID_BYTES = 4096


def rehearse(
    document: dict[str, Any], run_dir: RunDir, places: list[str], check_file: Callable[[str], None]
) -> list[str]:
    """All that is wrong, for people. `check_file(file)` reads a vassal's file and raises ValueError."""
    found: list[str] = []
    if document["run_dir"] != run_dir.path:
        found.append(
            f"its run directory would be {run_dir.path} and not {document['run_dir']}: set run-dir to that"
        )
    if document["places"][:1] != places[:1]:
        found.append(
            f"it would serve {', '.join(places)} and not {', '.join(document['places'])}: stop and start it for that"
        )
    if os.geteuid() != document["uid"]:
        found.append(f"it would run as uid {os.geteuid()} and not {document['uid']}")
    found += _states(document, run_dir)
    for file in document["well"]:
        try:
            check_file(file)
        except ValueError as error:
            found.append(str(error))
    found += _programs()
    return found


def new_addresses(document: dict[str, Any], wanted: Iterable[tuple[str, Address]]) -> list[str]:
    """Why an address that this version is to listen on, and the one before does not, cannot be had."""
    held = {(each["kind"], each["address"]) for each in document["router"]["listeners"]}
    found = []
    for kind, address in dict.fromkeys(wanted):
        if (kind, str(address)) not in held:
            try:
                sockets.open_at(kind, address).close()
            except BindError as error:
                found.append(f"{kind}: {error}")
            else:
                if address.path:
                    sockets.remove(address.path)
    return found


def answer(fd: int, problems: list[str]) -> None:
    """Tell who has started us, on `fd`, which is closed."""
    with contextlib.suppress(OSError), open(fd, "w", encoding="utf-8") as file:
        json.dump({"version": __version__, "problems": problems}, file)


def _states(document: dict[str, Any], run_dir: RunDir) -> list[str]:
    """What a kill -9 on the way would leave must be of use to this version, too."""
    found = []
    for each in document["gateways"]:
        path = run_dir.state(each["name"], each["generation"])
        try:
            with open(path, encoding="utf-8") as file:
                GenerationState.from_json(json.load(file))
        except FileNotFoundError:
            continue  # it has gone since
        except (OSError, ValueError, KeyError, TypeError) as error:
            found.append(f"{path}: {error}")
    return found


def _programs() -> list[str]:
    """Whether what it starts can be loaded."""
    said, theirs = os.pipe2(os.O_CLOEXEC)
    code = "".join(f"import {each}\n" for each in MODULES)
    try:
        pid = process.spawn_exec(
            [sys.executable, "-P", "-c", code], dict(os.environ), {1: theirs, 2: theirs}, "its programs"
        )
    except StartError as error:
        os.close(said)
        return [str(error)]
    finally:
        os.close(theirs)
    text = b""
    with open(said, "rb") as file:
        while piece := file.read(SAID_BYTES):
            text = (text + piece)[-SAID_BYTES:]
    end = Exit.from_status(os.waitpid(pid, 0)[1])
    if end.code == 0:
        return []
    lines = text.decode(errors="replace").strip().splitlines() or [end.text]
    return [f"what it starts cannot be loaded: {lines[-1]}"]
