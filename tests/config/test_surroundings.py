import grp
import os
import pwd
from pathlib import Path

import pytest

from emperor.config import surroundings
from emperor.config.files import Files
from emperor.config.problems import Mistake


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    (tmp_path / "vassals").mkdir()
    (tmp_path / "app").mkdir()
    assert surroundings.directory("../app", str(tmp_path / "vassals")) == str(tmp_path / "app")
    assert surroundings.directory(str(tmp_path), "/nowhere") == str(tmp_path)


def test_links_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "current").symlink_to("v1")
    assert surroundings.directory("current", str(tmp_path)) == str(tmp_path / "current")


def test_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    parent = str(tmp_path)
    for look_up, value, reason in (
        (surroundings.directory, "x", f"there is no directory {parent}/x"),
        (surroundings.directory, "file", f"{parent}/file is not a directory"),
        (surroundings.directory, "file/x", f"there is no directory {parent}/file/x"),
        (surroundings.file, "x", f"there is no file {parent}/x"),
        (surroundings.file, ".", f"{parent} is not a file"),
        (surroundings.virtualenv, "x", f"there is no directory {parent}/x"),
        (
            surroundings.virtualenv,
            ".",
            f"{parent} is no virtualenv: it has neither pyvenv.cfg nor bin/python",
        ),
        (surroundings.file, "a" * 300, f"{parent}/{'a' * 300} cannot be looked at: File name too long"),
    ):
        with pytest.raises(Mistake) as caught:
            look_up(value, parent)
        assert caught.value.reason == reason


@pytest.mark.parametrize("inside", ["pyvenv.cfg", "bin/python"])
def test_virtualenvs(tmp_path: Path, inside: str) -> None:
    (tmp_path / "venv" / inside).parent.mkdir(parents=True)
    (tmp_path / "venv" / inside).write_text("")
    assert surroundings.virtualenv("venv", str(tmp_path)) == str(tmp_path / "venv")


def test_patterns(tmp_path: Path) -> None:
    for name in ("lib-b", "lib-a", "other", "odd[1]"):
        (tmp_path / name).mkdir()
    parent = str(tmp_path)
    assert surroundings.directories("lib-*", parent, Files()) == (f"{parent}/lib-a", f"{parent}/lib-b")
    assert surroundings.directories("odd[1]", parent, Files()) == (f"{parent}/odd[1]",)
    assert surroundings.directories("none*", parent, Files()) == ()
    (tmp_path / "lib-a" / "inner").mkdir()
    assert surroundings.directories("lib-*/inner", parent, Files()) == ()


def test_users_and_groups() -> None:
    user = pwd.getpwuid(os.getuid())
    assert surroundings.user(user.pw_name) == (user.pw_uid, user.pw_gid)
    assert surroundings.user(str(user.pw_uid)) == (user.pw_uid, user.pw_gid)
    group = grp.getgrgid(user.pw_gid)
    assert surroundings.group(group.gr_name) == group.gr_gid
    assert surroundings.group(str(group.gr_gid)) == group.gr_gid
    assert surroundings.user("4000000000") == (4000000000, None)
    assert surroundings.group("4000000000") == 4000000000


@pytest.mark.parametrize("value", ["4294967295", "99999999999", "9" * 5000])
def test_ids_that_mean_something_else(value: str) -> None:
    for look_up in (surroundings.user, surroundings.group):
        with pytest.raises(Mistake, match="is no id: at most 4294967294"):
            look_up(value)


def test_nobody_knows_them() -> None:
    with pytest.raises(Mistake, match="there is no user 'no-such-user'"):
        surroundings.user("no-such-user")
    with pytest.raises(Mistake, match="there is no group 'no-such-group'"):
        surroundings.group("no-such-group")
