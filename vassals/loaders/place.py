"""The surroundings that a vassal's file asks for, made before its app is imported: directory, environment,
import path.

A forked worker inherits the emperor's interpreter. With a virtualenv it is made to look as if that
virtualenv's own interpreter had been started: its site-packages and ``.pth`` files, its ``sitecustomize``,
its ``sys.prefix``, and nothing of the emperor's own site-packages on the path. Modules of the worker that are
imported already stay usable.
"""

import contextlib
import importlib
import os
import site
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emperor.config.spec import AppSpec


class PlaceError(Exception):
    """The surroundings cannot be had. ``str()`` says which, why, and what to change."""


def settle(app: "AppSpec", config_path: str) -> None:
    """Applies ``umask``, ``env``, ``virtualenv``, ``chdir`` and ``pythonpath`` to this process. Raises PlaceError.

    Without ``chdir`` the directory is that of the vassal's file, as under the uWSGI emperor.
    """
    if app.umask is not None:
        os.umask(app.umask)
    if app.env:
        os.environ.update(app.env)
    if any(name == "TZ" for name, _ in app.env):
        time.tzset()
    _leave_starters_directory()
    if app.virtualenv is not None:
        enter_virtualenv(app.virtualenv)
    directory = app.chdir or os.path.dirname(config_path) or "."
    try:
        os.chdir(directory)
    except OSError as error:
        raise PlaceError(f"chdir {directory}: {error.strerror} (uid {os.geteuid()})") from None
    front = [os.getcwd(), *app.pythonpath]
    for name, value in app.env:
        if name == "PYTHONPATH":
            front += [path for path in value.split(os.pathsep) if path]
    if app.wsgi_file is not None:
        front.append(os.path.dirname(os.path.abspath(app.wsgi_file)))
    front = list(dict.fromkeys(front))
    sys.path[:] = front + [path for path in sys.path if path and path not in front]
    # A script's arguments are the emperor's; libraries that look must not parse them.
    sys.argv[:] = [app.wsgi_file or app.module or ""]


def settle_after(app: "AppSpec") -> None:
    """Applies what is to hold once the app is loaded: ``chdir2``. Raises PlaceError."""
    if app.chdir_after is not None:
        try:
            os.chdir(app.chdir_after)
        except OSError as error:
            raise PlaceError(f"chdir2 {app.chdir_after}: {error.strerror} (uid {os.geteuid()})") from None


def enter_virtualenv(path: str) -> None:
    """Makes ``path`` this process's virtualenv. Nothing to do when its own interpreter runs this."""
    os.environ["VIRTUAL_ENV"] = path
    if os.path.realpath(sys.prefix) == os.path.realpath(path):
        return
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = os.path.join(path, "lib", version, "site-packages")
    if not os.path.isdir(packages):
        raise PlaceError(_no_virtualenv(path, version))
    library = standard_library()
    sys.path[:] = [entry for entry in sys.path if entry in library]
    sys.prefix = sys.exec_prefix = path
    site.PREFIXES[:] = [path]
    python = os.path.join(path, "bin", "python")
    if os.path.exists(python):
        sys.executable = python
    shared = site.getsitepackages([sys.base_prefix, sys.base_exec_prefix])
    for directory in [packages, *(shared if _shares_system_packages(path) else [])]:
        site.addsitedir(directory)
    _customize(packages)


def _leave_starters_directory() -> None:
    """``python -m`` puts the directory it was started in first; that is wherever the operator happened to
    be, and no place to import an app's modules from."""
    if sys.flags.safe_path or not sys.path or sys.path[0] in standard_library():
        return
    if not sys.path[0].endswith(("site-packages", "dist-packages")):
        del sys.path[0]


def standard_library() -> set[str]:
    """The entries of ``sys.path`` that are Python's own."""
    here = os.path.dirname(os.__file__)
    folder, name = os.path.split(here)
    return {here, os.path.join(here, "lib-dynload"), os.path.join(folder, name.replace(".", "") + ".zip")}


def _shares_system_packages(path: str) -> bool:
    with contextlib.suppress(OSError), open(os.path.join(path, "pyvenv.cfg"), encoding="utf-8") as lines:
        for line in lines:
            key, _, value = line.partition("=")
            if key.strip() == "include-system-site-packages":
                return value.strip().lower() == "true"
    return False


def _no_virtualenv(path: str, version: str) -> str:
    try:
        others = sorted(name for name in os.listdir(os.path.join(path, "lib")) if name.startswith("python"))
    except OSError:
        others = []
    there = f"it is one of {', '.join(others)}" if others else "there is none"
    return (
        f"virtualenv {path} is none of {version}, which this emperor runs: {there}. "
        f"Make it anew with `{sys.executable} -m venv {path}`, or set spawn = exec"
    )


def _customize(packages: str) -> None:
    """Runs the virtualenv's ``sitecustomize``, as its own interpreter would have."""
    if os.path.exists(os.path.join(packages, "sitecustomize.py")):
        sys.modules.pop("sitecustomize", None)
        importlib.invalidate_caches()
        importlib.import_module("sitecustomize")
