"""A vassal whose virtualenv has another Python: executed from it, as its user, or refused with what to do; one that does
anything else than be a gateway harms nobody but itself."""

import os
import shutil
import site
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from emperor import __version__

from .harness import Fleet, wait_for
from .harness.fleet import APPS

HELLO = APPS / "hello.py"
PROJECT = APPS.parents[3]
WHICH = """
    import os, sys

    def application(environ, start_response):
        start_response("200 OK", [])
        return [f"{sys.executable} {sys.prefix} {os.getuid()} {os.environ.get('SEEN', '')}".encode()]
"""


def another_base(root: Path) -> Path:
    """A Python of ours in another place, with a standard library of its own path: to a vassal's eyes, another one."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (root / "bin").mkdir(parents=True)
    python = root / "bin" / version
    shutil.copy(os.path.realpath(sys.executable), python)
    (root / "lib").mkdir()
    (root / "lib" / version).symlink_to(sysconfig.get_path("stdlib", vars={"base": sys.base_prefix}))
    return python


def virtualenv(path: Path, python: Path, ours: bool = True) -> Path:
    """A virtualenv of `python`, without pip; with `ours` this checkout is installed in it, as an editable one is."""
    subprocess.run([python, "-m", "venv", "--without-pip", path], check=True)
    if ours:
        packages = next(path.glob("lib/python*/site-packages"))
        (packages / f"emperor_vassals-{__version__}.dist-info").mkdir()
        lines = [str(PROJECT), *site.getsitepackages()]
        (packages / f"__editable__.emperor_vassals-{__version__}.pth").write_text("\n".join(lines) + "\n")
    return path


def broken(path: Path, script: str, mode: int = 0o755) -> Path:
    """A virtualenv of another version whose python is this shell script."""
    packages = path / "lib/python3.99/site-packages"
    packages.mkdir(parents=True)
    (packages / f"emperor_vassals-{__version__}.dist-info").mkdir()
    (path / "pyvenv.cfg").write_text("home = /nowhere\nversion = 3.99.0\n")
    (path / "bin").mkdir()
    (path / "bin/python").write_text(f"#!/bin/sh\n{script}\n")
    (path / "bin/python").chmod(mode)
    return path


def test_another_python_serves_from_its_own_virtualenv(fleet: Fleet) -> None:
    base = another_base(fleet.root / "python")
    venv = virtualenv(fleet.root / "venv", base)
    fleet.app("other", WHICH, virtualenv=venv)
    fleet.app("own", WHICH)
    fleet.app("without", WHICH, virtualenv=virtualenv(fleet.root / "bare", base, ours=False))
    fleet.start(ready=False)
    fleet.wait_ready("other", "own")
    executable, prefix, _uid, *_ = fleet.get("other").text.split(" ")
    assert (executable, prefix) == (f"{venv}/bin/python", str(venv))
    assert fleet.get("own").text.split(" ")[0] == sys.executable
    refused = fleet.wait_state("without", "REFUSED")["reason"]
    assert f"run {fleet.root}/bare/bin/python -m pip install emperor-vassals" in refused

    # A reload of it, and its worker's death, are as everybody else's.
    os.utime(fleet.directory / "other.ini")
    wait_for(lambda: fleet.vassal_status("other")["generation"] == 2, 15, fleet.summary)
    os.kill(fleet.pid("worker", "other"), 9)
    wait_for(lambda: fleet.get("other").status == 200, 15, fleet.summary)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can become anybody")
def test_who_is_not_root_has_no_tenants(fleet: Fleet) -> None:
    fleet.vassal("a", wsgi_file=HELLO, uid="daemon")
    fleet.start(ready=False)
    assert "another user" in fleet.wait_state("a", "REFUSED")["reason"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a tenant")
def test_what_a_tenant_s_python_is_it_is_as_the_tenant(fleet: Fleet) -> None:
    """Also what `env` has any Python load before our first line: nothing of a tenant's ever runs as root."""
    proof = fleet.root / "proof"
    proof.mkdir()
    proof.chmod(0o777)
    (proof / "sitecustomize.py").write_text(
        f"import os\nopen('{proof}/' + str(os.geteuid()) + '.' + str(os.getegid()), 'a').close()\n"
    )
    venv = broken(fleet.root / "venv", f'touch "{proof}/script.$(id -u)"; exec {sys.executable} "$@"')
    fleet.app("env", WHICH, uid="daemon", env=[f"PYTHONPATH={proof}", "SEEN=x"])
    fleet.app("script", WHICH, uid="daemon", virtualenv=venv)
    fleet.start(ready=False)
    fleet.wait_ready("env")
    daemon = fleet.get("env").text.split(" ")[2]
    assert daemon != "0"
    wait_for(lambda: (proof / f"script.{daemon}").exists(), 10, fleet.log)
    seen = {path.name for path in proof.iterdir() if path.is_file()} - {"sitecustomize.py"}
    assert {name.partition(".")[0] for name in seen} == {daemon, "script"}
    assert "script.0" not in seen


def test_a_python_that_is_none_is_named_and_nobody_else_notices(fleet: Fleet) -> None:
    keys = {"start-timeout": "1s", "wsgi-file": HELLO}
    fleet.vassal("good", **{"wsgi-file": HELLO})
    link = broken(fleet.root / "dangling", "exit 0")
    (link / "bin/python").unlink()
    (link / "bin/python").symlink_to("/nowhere/python")
    fleet.vassal("dangling", virtualenv=link, **keys)
    fleet.vassal("noexec", virtualenv=broken(fleet.root / "noexec", "exit 0", 0o644), **keys)
    fleet.vassal("ends", virtualenv=broken(fleet.root / "ends", "echo no such thing >&2; exit 7"), **keys)
    fleet.vassal(
        "prints", virtualenv=broken(fleet.root / "prints", "head -c 300000 /dev/urandom; exit 0"), **keys
    )
    hangs = broken(fleet.root / "hangs", "exec sleep 1000")
    fleet.vassal("hangs", virtualenv=hangs, **keys)
    missing = broken(fleet.root / "missing", "")
    (missing / "bin/python").write_text("#!/nowhere/interpreter\n")
    fleet.vassal("missing", virtualenv=missing, **keys)
    fleet.start(ready=False)
    fleet.wait_ready("good")
    assert "leads nowhere (/nowhere/python)" in fleet.wait_state("dangling", "REFUSED")["reason"]
    assert "no program that can be run" in fleet.wait_state("noexec", "REFUSED")["reason"]

    def reason(name: str, *words: str) -> None:
        wait_for(
            lambda: all(word in fleet.vassal_status(name).get("reason", "") for word in words),
            20,
            lambda: f"{name}: {words}; {fleet.summary()}",
        )

    reason("ends", f"{fleet.root}/ends/bin/python exited with code 7", "no such thing")
    reason("prints", f"{fleet.root}/prints/bin/python exited with code 0 before it was a gateway")
    reason("missing", f"{fleet.root}/missing/bin/python", "No such file")
    reason("hangs", "1 s")
    assert fleet.get("good").status == 200
    assert fleet.vassal_status("good")["generation"] == 1
