"""Fork or exec: which interpreter a vassal runs in, found out by looking at files alone.

A vassal is forked from the warm spawner when its interpreter is ours, and executed when it is another one or
must be fresh. The interpreter of a virtualenv is never run to find out: the emperor may be root, and the
file is the tenant's.
"""

from __future__ import annotations

import glob
import os
import stat
import sys

from emperor import __version__

DISTRIBUTION = "emperor-vassals"


class WrongInterpreter(Exception):
    """The vassal cannot run in the interpreter that it names; the text says what to do."""


def argv_of(virtualenv: str | None, spawn: str) -> tuple[str, ...]:
    """The program to execute for a vassal, or nothing when it is to be forked from the spawner.

    `spawn` is what the vassal's file asks for: fork or exec. Raises WrongInterpreter.
    """
    if virtualenv is None or (_is_ours(virtualenv) and _our_version(virtualenv) is None):
        # A virtualenv of our own interpreter needs nothing of ours: the worker takes its path on itself,
        # after an exec as after a fork.
        return () if spawn == "fork" else _argv(sys.executable)
    if _is_ours(virtualenv) and spawn == "fork":
        return ()
    python = os.path.join(virtualenv, "bin", "python")
    _must_run(virtualenv, python)
    installed = _our_version(virtualenv)
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


def _is_ours(virtualenv: str) -> bool:
    """True for the same base executable and version as the emperor's."""
    settings = _settings(virtualenv)
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    version = settings.get("version") or settings.get("version_info") or own
    if ".".join(version.split(".")[:2]) != own:
        return False
    ours = os.path.realpath(sys.executable)
    candidates = [os.path.join(virtualenv, "bin", "python")]
    if "home" in settings:  # made with --copies: its executable is a copy of the one that stands there
        candidates += [os.path.join(settings["home"], name) for name in (f"python{own}", "python3", "python")]
    return any(os.path.realpath(path) == ours for path in candidates if os.path.exists(path))


def _settings(virtualenv: str) -> dict[str, str]:
    """pyvenv.cfg (PEP 405), empty when there is none."""
    try:
        with open(os.path.join(virtualenv, "pyvenv.cfg"), encoding="utf-8", errors="replace") as file:
            lines = file.read(65536).splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _our_version(virtualenv: str) -> str | None:
    """The version of this package in the virtualenv, installed or editable; None when it is not there to import."""
    places = os.path.join(glob.escape(virtualenv), "lib*", "python*", "site-packages")
    for pattern in ("emperor_vassals-*.dist-info", "__editable__.emperor_vassals-*.pth"):
        for path in sorted(glob.glob(os.path.join(places, pattern))):
            return os.path.splitext(os.path.basename(path))[0].rpartition("emperor_vassals-")[2]
    return None
