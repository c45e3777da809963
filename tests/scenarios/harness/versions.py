"""Other versions of the project, installed beside the one that is tested."""

import os
import shutil
import stat
import sys
import sysconfig
import venv
from pathlib import Path

PROJECT = Path(__file__).parents[3]
PACKAGES = ("emperor", "vassals")


def install(where: Path, version: str) -> Path:
    """A virtual environment at `where` with a copy of the project that calls itself `version`, and what it depends on; the
    path of its `emperor`."""
    venv.create(where, symlinks=True, with_pip=False)
    (site,) = where.glob("lib/python*/site-packages")
    for package in PACKAGES:
        shutil.copytree(
            PROJECT / package,
            site / package,
            ignore=shutil.ignore_patterns("__pycache__", "*.pyx", "*.c"),
        )
    own = site / "emperor" / "__init__.py"
    text = own.read_text()
    own.write_text(text[: text.index("__version__")] + f"__version__ = {version!r}\n")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return script(
        where / "bin" / "emperor", "from emperor.cli.main import main\nmain()\n", where / "bin" / "python"
    )


def replace_in(program: Path, module: str, before: str, after: str) -> None:
    """Change the source of an installed copy."""
    (site,) = program.parents[1].glob("lib/python*/site-packages")
    path = site / module
    text = path.read_text()
    assert before in text, f"{before!r} is not in {path}"
    path.write_text(text.replace(before, after))


def script(path: Path, text: str, python: Path | None = None) -> Path:
    """An executable file of Python."""
    path.write_text(f"#!{python or sys.executable}\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def before_it(path: Path, program: Path, deed: str) -> Path:
    """A program that becomes `program`, after `deed`: Python that sees by `trial` and `taking_over` which it is."""
    text = f"""import os, sys, time
trial, taking_over = ("_EMPEROR_" + name in os.environ for name in ("TRIAL", "HANDOVER"))
{deed}
os.execv({str(program)!r}, [{str(program)!r}, *sys.argv[1:]])
"""
    return script(path, text)


def waits_for(file: Path) -> str:
    """A deed: wait until this file is gone, and say meanwhile that we are there by one with `.here` behind its name."""
    return (
        f"open({str(file) + '.here'!r}, 'w').close()\n"
        f"while os.path.exists({os.fspath(file)!r}): time.sleep(0.01)\n"
    )
