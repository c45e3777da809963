"""Fork or exec, from files alone."""

import os
import sys
from pathlib import Path

import pytest

from emperor import __version__
from emperor.config import files
from emperor.config.entries import Owner
from emperor.supervisor.interpreter import WrongInterpreter, argv_of
from tests.reach import reachable

OWN = f"{sys.version_info.major}.{sys.version_info.minor}"


def virtualenv(path: Path, python: str = sys.executable, version: str = OWN, ours: str = "") -> str:
    (path / "bin").mkdir(parents=True)
    (path / "bin" / "python").symlink_to(python)
    (path / "pyvenv.cfg").write_text(f"home = /nowhere\nversion = {version}.7\n")
    packages = path / "lib" / f"python{version}" / "site-packages"
    packages.mkdir(parents=True)
    if ours:
        (packages / f"emperor_vassals-{ours}.dist-info").mkdir()
    return str(path)


def test_without_a_virtualenv() -> None:
    assert argv_of(None, "fork") == ()
    assert argv_of(None, "exec") == (sys.executable, "-P", "-m", "vassals")


def test_a_virtualenv_of_our_python_is_forked(tmp_path: Path) -> None:
    path = virtualenv(tmp_path / "v")
    assert argv_of(path, "fork") == ()
    assert argv_of(path, "exec")[0] == sys.executable, "we are not installed in it, and need not be"


def test_a_virtualenv_of_our_python_with_us_in_it_is_executed_as_itself(tmp_path: Path) -> None:
    path = virtualenv(tmp_path / "v", ours=__version__)
    assert argv_of(path, "fork") == ()
    assert argv_of(path, "exec")[0] == f"{path}/bin/python"


@pytest.mark.parametrize("other", [{"version": "3.99"}, {"python": "/bin/sh"}])
def test_another_python_needs_us_installed(tmp_path: Path, other: dict[str, str]) -> None:
    path = virtualenv(tmp_path / "v", **other)  # type: ignore[arg-type]
    with pytest.raises(WrongInterpreter, match=f"{path}/bin/python -m pip install emperor-vassals"):
        argv_of(path, "fork")
    path = virtualenv(tmp_path / "w", ours=__version__, **other)  # type: ignore[arg-type]
    assert argv_of(path, "fork")[0] == f"{path}/bin/python"


def test_us_in_another_version_there_is_said_with_the_command(tmp_path: Path) -> None:
    path = virtualenv(tmp_path / "v", version="3.99", ours="99.1.2")
    with pytest.raises(
        WrongInterpreter, match=f"has emperor-vassals 99.1.2, the emperor is {__version__}: run .*=="
    ):
        argv_of(path, "fork")
    major, minor, _ = __version__.split(".")
    path = virtualenv(tmp_path / "w", version="3.99", ours=f"{major}.{minor}.99")
    assert argv_of(path, "fork")[0] == f"{path}/bin/python", "a patch release speaks the same"


def test_a_broken_virtualenv_says_so(tmp_path: Path) -> None:
    path = virtualenv(tmp_path / "v", python="/nowhere/python3.99", version="3.99")
    with pytest.raises(WrongInterpreter, match=r"leads nowhere \(/nowhere/python3.99\)"):
        argv_of(path, "fork")
    python = Path(path, "bin/python")
    python.unlink()
    with pytest.raises(WrongInterpreter, match="there is no"):
        argv_of(path, "fork")
    python.write_text("#!/bin/sh\n")
    python.chmod(0o644)
    with pytest.raises(WrongInterpreter, match="no program that can be run"):
        argv_of(path, "fork")
    python.unlink()
    python.mkdir()
    with pytest.raises(WrongInterpreter, match="no program that can be run"):
        argv_of(path, "fork")


@pytest.mark.parametrize("owner", [None, pytest.param(Owner(54321), id="tenant")])
@pytest.mark.parametrize("kind", ["fifo", "device", "link to a fifo", "directory"])
def test_what_is_no_file_by_the_name_of_pyvenv_cfg_holds_nobody_up(
    tmp_path: Path, kind: str, owner: Owner | None
) -> None:
    if os.geteuid() != 0 and owner is not None:
        pytest.skip("only root has rights to lend")
    reachable(tmp_path)
    path = virtualenv(tmp_path / "v")
    settings = Path(path, "pyvenv.cfg")
    settings.unlink()
    match kind:
        case "fifo":
            os.mkfifo(settings)
        case "device":
            settings.symlink_to("/dev/zero")
        case "link to a fifo":
            os.mkfifo(tmp_path / "fifo", 0o644)
            settings.symlink_to(tmp_path / "fifo")
        case "directory":
            settings.mkdir()
    with pytest.raises(WrongInterpreter, match=r"pyvenv.cfg is not a regular file; make the virtualenv anew"):
        argv_of(path, "fork", owner)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, which alone has rights to lend")
def test_a_virtualenv_is_looked_at_as_the_vassals_user(tmp_path: Path) -> None:
    reachable(tmp_path)
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    path = virtualenv(private / "v", version="3.99", ours="99.1.2")
    with pytest.raises(WrongInterpreter, match=r"has emperor-vassals 99\.1\.2"):
        argv_of(path, "fork")
    with pytest.raises(WrongInterpreter, match="bin/python cannot be looked at: Permission denied"):
        argv_of(path, "fork", Owner(54321))
    os.chown(private, 0, 54322)
    private.chmod(0o750)
    with pytest.raises(WrongInterpreter, match=r"has emperor-vassals 99\.1\.2"):
        argv_of(path, "fork", Owner(54321, 54322))


def test_a_virtualenv_with_too_much_in_it_is_not_walked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = virtualenv(tmp_path / "v", version="3.99")
    for number in range(30):
        (tmp_path / "v" / f"lib{number}").mkdir()
    monkeypatch.setattr(files, "_MOST_LOOKED_AT", 20)
    with pytest.raises(WrongInterpreter, match="more than 20 names to look at"):
        argv_of(path, "fork")
