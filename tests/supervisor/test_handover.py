"""What goes over to the program that takes an emperor's place, and what does not."""

import fcntl
import json
import os
from pathlib import Path

import pytest

from emperor.supervisor import handover
from emperor.supervisor.handover import Keep, Unreadable


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_what_nobody_asks_for_is_closed() -> None:
    keep = Keep()
    pipes = [os.pipe(), os.pipe()]
    document = {"a": keep.part({"fd": pipes[0][0], "rest": ""}), "b": keep(pipes[0][1]), "none": keep(-1)}
    for fd in pipes[1]:
        keep(fd)
    handed = handover.read(handover.write({**document, "list": [{"pem": pipes[1][0]}]}, keep))
    handed.take_all(handed.document["a"])
    handed.take_all(handed.document["list"])
    assert handed.take(handed.document["b"]) == pipes[0][1]
    handed.close_rest()
    assert [is_open(fd) for fd in (*pipes[0], *pipes[1])] == [True, True, True, False]
    for fd in (*pipes[0], pipes[1][0]):
        os.close(fd)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "cannot be read"),
        (b"[]", "no document of ours"),
        (b"{}", "no document of ours"),
        (
            json.dumps({"format": 7, "version": "3.0", "fds": []}).encode(),
            "version 3.0 hands over in format 7",
        ),
    ],
)
def test_what_is_not_for_this_version_says_so(content: bytes, why: str) -> None:
    fd = os.memfd_create("x")
    os.write(fd, content)
    with pytest.raises(Unreadable, match=why):
        handover.read(fd)
    assert not is_open(fd)


def test_a_lock_goes_over_by_what_it_is_on(tmp_path: Path) -> None:
    held = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    keep = Keep()
    handed = handover.read(handover.write({"locks": [keep(held)]}, keep))
    (tmp_path / "link").symlink_to(tmp_path)
    assert handed.lock_on(str(tmp_path / "gone")) is None
    assert handed.lock_on(str(tmp_path / "link")) == held
    assert handed.lock_on(str(tmp_path)) is None, "it has an owner"
    handed.close_rest()
    assert is_open(held)
    os.close(held)


def test_the_environment_is_asked_once_and_believes_no_nonsense() -> None:
    fd = os.memfd_create("x")
    environ = {handover.VARIABLE: str(fd), handover.TRIAL: "3:4"}
    assert handover.taken(environ) == fd and not os.get_inheritable(fd)
    assert handover.trial_of(environ) == (3, 4)
    assert environ == {} and handover.taken(environ) is None and handover.trial_of(environ) is None
    os.close(fd)
    for nonsense in ("", "x", "-1", str(fd), "0"):
        assert handover.taken({handover.VARIABLE: nonsense}) is None
    for nonsense in ("", "3", "3:", ":4", "a:b"):
        assert handover.trial_of({handover.TRIAL: nonsense}) is None
