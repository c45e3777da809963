"""What counts as a change of an app's code, and what does not."""

import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenarios.harness.waiting import wait_for
from vassals.loaders import watch
from vassals.loaders.watch import Watch


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Path]:
    """The source file of a module that is imported."""
    path = tmp_path / "shop" / "views.py"
    path.parent.mkdir()
    path.write_text("1")
    made = types.ModuleType("shop.views")
    made.__file__ = str(path)
    sys.modules["shop.views"] = made
    yield path
    del sys.modules["shop.views"]


def watching(*paths: object, ignore: tuple[str, ...] = (), modules: bool = True) -> tuple[Watch, list[str]]:
    said: list[str] = []
    return Watch(ignore, tuple(map(str, paths)), modules=modules, log=said.append), said


def test_a_changed_module_and_a_new_file_beside_it_count_once(module: Path) -> None:
    looking, _ = watching()
    assert looking.look() == ""
    module.write_text("22")
    assert looking.look() == str(module)
    assert looking.look() == ""
    new = module.with_name("models.py")
    new.write_text("")
    assert looking.look() == str(new)
    module.with_name("notes.txt").write_text("")
    assert looking.look() == ""


def test_an_older_time_counts_and_a_file_on_its_way_back_does_not(module: Path) -> None:
    looking, _ = watching()
    kept = module.stat()
    module.unlink()
    assert looking.look() == ""
    module.write_text("1")
    os.utime(module, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    looking.look()  # another inode: an editor has replaced it
    os.utime(module, (1, 1))
    assert looking.look() == str(module)


def test_a_module_that_is_imported_later_is_no_change(module: Path, tmp_path: Path) -> None:
    looking, _ = watching()
    other = tmp_path / "lib" / "late.py"
    other.parent.mkdir()
    other.write_text("")
    made = types.ModuleType("late")
    made.__file__ = str(other)
    sys.modules["late"] = made
    try:
        assert looking.look() == ""
        other.write_text("changed")
        assert looking.look() == str(other)
    finally:
        del sys.modules["late"]


def test_what_is_ignored_is_not_looked_at(module: Path) -> None:
    looking, _ = watching(ignore=("shop",))
    module.write_text("22")
    assert looking.look() == ""


def test_a_library_is_looked_at_by_its_modules_alone(tmp_path: Path) -> None:
    path = tmp_path / "site-packages" / "lib.py"
    path.parent.mkdir()
    path.write_text("")
    made = types.ModuleType("lib_of_test")
    made.__file__ = str(path)
    sys.modules["lib_of_test"] = made
    try:
        looking, _ = watching()
        path.with_name("another.py").write_text("")
        assert looking.look() == ""
        path.write_text("1")
        assert looking.look() == str(path)
    finally:
        del sys.modules["lib_of_test"]


def test_a_directory_counts_with_all_below_it_but_what_is_made_there(tmp_path: Path) -> None:
    for name in ("pages/sub", "pages/.git", "pages/__pycache__", "pages/venv"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "pages/venv/pyvenv.cfg").touch()
    (tmp_path / "pages/sub/a.html").write_text("1")
    looking, _ = watching(tmp_path / "pages", modules=False)
    for name in ("pages/.git/x", "pages/__pycache__/x.pyc", "pages/venv/x", "pages/.a.html.swp"):
        (tmp_path / name).write_text("1")
    assert looking.look() == ""
    (tmp_path / "pages/sub/a.html").write_text("22")
    assert looking.look() == str(tmp_path / "pages/sub/a.html")
    (tmp_path / "pages/sub/b.html").write_text("1")
    assert looking.look() == str(tmp_path / "pages/sub/b.html")


def test_what_is_not_there_is_said_once_and_counts_when_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "later"
    looking, said = watching(path, modules=False)
    assert looking.look() == ""
    assert len(said) == 1 and str(path) in said[0]
    path.write_text("1")
    assert looking.look() == str(path)


def test_too_many_files_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MOST_FILES", 2)
    for number in range(4):
        (tmp_path / f"{number}").write_text("")
    _, said = watching(tmp_path, modules=False)
    assert len(said) == 1 and "more than 2 files" in said[0]


def test_a_burst_is_told_once(module: Path) -> None:
    told: list[str] = []
    over = watch.start(
        0.02, (), (), lambda state, **more: told.append(f"{state} {more['reason']}"), told.append
    )
    for number in range(10):
        module.write_text("x" * number)
    wait_for(lambda: told, 10, lambda: "nothing was told")
    assert told == [f"changed {module}"]
    # It would look at all modules until the last test.
    over.set()
