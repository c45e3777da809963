"""Fork or exec: which interpreter a vassal runs in, found out by looking at files alone.

A vassal is forked from the warm spawner when its interpreter is ours, and executed when it is another one or
must be fresh. The interpreter of a virtualenv is never run to find out: the emperor may be root, and the
file is the tenant's. For the same reason its files are read as the vassal's user, never waiting for one, and
no more of them than `emperor.config.files` allows: a FIFO by the name of pyvenv.cfg would stop every vassal.
"""

from __future__ import annotations

import os
import stat
import sys

from emperor import __version__
from emperor.config import rights
from emperor.config.entries import Owner
from emperor.config.files import Files
from emperor.config.problems import Mistake

DISTRIBUTION = "emperor-vassals"


class WrongInterpreter(Exception):
    """The vassal cannot run in the interpreter that it names; the text says what to do."""


def argv_of(virtualenv: str | None, spawn: str, owner: Owner | None = None) -> tuple[str, ...]:
    """The program to execute for a vassal, or nothing when it is to be forked from the spawner.

    `spawn` is what the vassal's file asks for: fork or exec. The virtualenv is looked at as `owner`, whom the
    vassal runs as. Raises WrongInterpreter.
    """
    if virtualenv is None:
        return () if spawn == "fork" else _argv(sys.executable)
    try:
        files = Files()
        ours = _is_ours(virtualenv, _settings(files, virtualenv, owner), owner)
        installed = _our_version(files, virtualenv, owner)
    except Mistake as mistake:
        raise WrongInterpreter(f"virtualenv: {virtualenv}: {mistake.reason}") from None
    if ours and installed is None:
        # A virtualenv of our own interpreter needs nothing of ours: the worker takes its path on itself,
        # after an exec as after a fork.
        return () if spawn == "fork" else _argv(sys.executable)
    if ours and spawn == "fork":
        return ()
    python = os.path.join(virtualenv, "bin", "python")
    with rights.as_owner(owner):
        _must_run(virtualenv, python)
    if installed is None:
        raise WrongInterpreter(
            f"virtualenv: {virtualenv} has another Python than the emperor, and {DISTRIBUTION} is not installed "
            f"in it: run {python} -m pip install {DISTRIBUTION}"
        )
    if installed.split(".")[:2] != __version__.split(".")[:2]:
        # What the emperor and a vassal's processes tell each other may change with every minor version.
        raise WrongInterpreter(
            f"virtualenv: {virtualenv} has {DISTRIBUTION} {installed}, the emperor is {__version__}: "
            f"run {python} -m pip install {DISTRIBUTION}=={__version__}"
        )
    return _argv(python)


def _must_run(virtualenv: str, python: str) -> None:
    """Raises WrongInterpreter for what the system would not even begin to run."""
    again = "make it anew with `python -m venv`"
    try:
        mode = os.stat(python).st_mode
    except OSError as error:
        if os.path.islink(python):
            raise WrongInterpreter(
                f"virtualenv: {python} is a link that leads nowhere ({os.path.realpath(python)}): was that Python removed? "
                f"{again.capitalize()}"
            ) from None
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            raise WrongInterpreter(f"virtualenv: there is no {python}: {again}") from None
        raise WrongInterpreter(f"virtualenv: {python} cannot be looked at: {error.strerror}") from None
    if not stat.S_ISREG(mode) or not mode & 0o111:
        raise WrongInterpreter(f"virtualenv: {python} is no program that can be run: {again}, or chmod +x it")


def _argv(python: str) -> tuple[str, ...]:
    # -P: the directory that the emperor was started in is no place to import from.
    return (python, "-P", "-m", "vassals")


def _is_ours(virtualenv: str, settings: dict[str, str], owner: Owner | None) -> bool:
    """True for the same base executable and version as the emperor's. What `owner` sees is followed with the emperor's
    rights: ours may lie where the tenant cannot look, and all that he learns is that it is the same."""
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    version = settings.get("version") or settings.get("version_info") or own
    if ".".join(version.split(".")[:2]) != own:
        return False
    ours = os.path.realpath(sys.executable)
    candidates = [os.path.join(virtualenv, "bin", "python")]
    if "home" in settings:  # made with --copies: its executable is a copy of the one that stands there
        candidates += [os.path.join(settings["home"], name) for name in (f"python{own}", "python3", "python")]
    with rights.as_owner(owner):
        candidates = [path for path in candidates if os.path.lexists(path)]
    return any(os.path.realpath(path) == ours for path in candidates if os.path.exists(path))


def _settings(files: Files, virtualenv: str, owner: Owner | None) -> dict[str, str]:
    """pyvenv.cfg (PEP 405), empty when there is none that `owner` may read. Raises Mistake for what is no file."""
    path = os.path.join(virtualenv, "pyvenv.cfg")
    if not files.exists(path, owner):
        return {}
    try:
        lines = files.read(path, owner).data.decode("utf-8", "replace").splitlines()
    except Mistake as mistake:
        raise Mistake(
            f"pyvenv.cfg {mistake.reason}; make the virtualenv anew with `python -m venv`"
        ) from None
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _our_version(files: Files, virtualenv: str, owner: Owner | None) -> str | None:
    """The version of this package in the virtualenv, installed or editable; None when it is not there to import.
    Raises Mistake where there is too much to look at."""
    packages = files.glob("lib*/python*/site-packages/*emperor_vassals-*", virtualenv, owner)
    names = [os.path.basename(path.rstrip("/")) for path in packages]
    for start, end in (("emperor_vassals-", ".dist-info"), ("__editable__.emperor_vassals-", ".pth")):
        for name in names:
            if name.startswith(start) and name.endswith(end):
                return name.removeprefix(start).removesuffix(end)
    return None
