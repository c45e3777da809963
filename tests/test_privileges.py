"""Becoming somebody else, for good. What needs root is tried by root, and refused to others: both are
asserted."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys

import pytest

from emperor.privileges import PrivilegeError, drop, resolve_group, resolve_user


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_names_and_numbers() -> None:
    root = pwd.getpwuid(0)
    assert resolve_user("root") == resolve_user("0") == (0, "root", root.pw_gid)
    assert resolve_user("3999999999") == (3999999999, None, None)
    assert resolve_group("root") == resolve_group("0") == (0, "root")
    assert resolve_group("3999999999") == (3999999999, None)


@pytest.mark.parametrize("text", ["no-such-user", "", "-1", "1.5", "٣"])
def test_what_does_not_exist_is_named(text: str) -> None:
    with pytest.raises(PrivilegeError, match=f"^uid: there is no user {text!r}"):
        resolve_user(text)
    with pytest.raises(PrivilegeError, match=f"^gid: there is no group {text!r}"):
        resolve_group(text)


@pytest.mark.parametrize("text", ["4294967295", "4294967296", "9" * 30])
def test_the_number_that_means_no_change_is_refused(text: str) -> None:
    with pytest.raises(PrivilegeError, match=r"uid: .* is no user"):
        resolve_user(text)


def test_nothing_to_change_is_no_error() -> None:
    drop(None, None)
    if os.geteuid() != 0:
        drop(os.getuid(), os.getgid())


DROP = """
import os
from emperor.privileges import drop, PrivilegeError
try:
    drop({arguments})
except PrivilegeError as error:
    print(error)
else:
    print(os.getresuid(), os.getresgid(), os.getgroups())
"""


def test_root_becomes_a_user_and_others_are_told_why_not() -> None:
    seen = run(DROP.format(arguments="12345, 23456"))
    if os.geteuid() == 0:
        assert seen == "(12345, 12345, 12345) (23456, 23456, 23456) []"
    else:
        assert seen.startswith("uid: cannot become 12345") and "start the emperor as root" in seen


def test_a_user_without_an_entry_needs_a_group() -> None:
    assert run(DROP.format(arguments="12345, None")).startswith("gid: user 12345 has no passwd entry")


def test_the_groups_of_an_entry_are_taken_on() -> None:
    seen = run(DROP.format(arguments="65534, None"))
    group = pwd.getpwuid(65534).pw_gid
    if os.geteuid() == 0:
        assert seen.startswith(f"(65534, 65534, 65534) ({group}, {group}, {group}) [")
    else:
        assert seen.startswith("uid: cannot become 65534")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a drop to undo")
def test_a_drop_that_can_be_undone_is_an_error() -> None:
    code = """
import os
from emperor import privileges
os.setresuid = lambda *uids: os.seteuid(uids[1])  # as an incomplete drop would
try:
    privileges.drop(12345, 23456)
except privileges.PrivilegeError as error:
    print(error)
"""
    assert run(code).startswith("uid: after the change to 12345:23456 we are (0, 12345, 0)")
