"""Real processes: every end is told once, whoever's child it was, and strangers do not stay."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from emperor.supervisor import process
from emperor.supervisor.children import Children
from emperor.supervisor.loop import Loop
from emperor.supervisor.process import UNSEEN, Exit
from emperor.supervisor.replacing import Replacing

from .turning import Told, turn_until


@pytest.fixture
def children(loop: Loop) -> Iterator[Children]:
    made = Children(loop, Told(), stranger_s=0.2)
    yield made
    made.close()


def sleeper() -> int:
    return process.spawn_exec(
        [sys.executable, "-c", "import time; time.sleep(60)"], os.environ, {}, "a sleeper"
    )


def test_an_end_is_told_once_with_its_reason(loop: Loop, children: Children) -> None:
    ends: list[Exit] = []
    child = children.watch(sleeper(), ends.append)
    child.signal(signal.SIGKILL)
    turn_until(loop, lambda: ends)
    turn_until(loop, lambda: not child.alive)
    loop.step(0.05)
    assert ends == [Exit(signal=9)]
    child.signal(signal.SIGKILL)  # reaches nobody, whoever has the number now


def test_one_that_ended_before_anybody_asked_is_known(loop: Loop, children: Children) -> None:
    pid = process.spawn_exec([sys.executable, "-c", "raise SystemExit(70)"], os.environ, {}, "a quick one")
    turn_until(loop, lambda: pid in children._unclaimed)
    ends: list[Exit] = []
    children.watch(pid, ends.append)
    turn_until(loop, lambda: ends)
    assert ends == [Exit(code=70)]


def test_somebody_elses_child_dies_unsupervised(loop: Loop, children: Children) -> None:
    # Its parent, which reaps it, is a process of its own.
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys\n"
            "c = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
            "print(c.pid, flush=True); c.wait()",
        ],
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    ends: list[Exit] = []
    child = children.watch(int(parent.stdout.readline()), ends.append)
    own: list[Exit] = []
    children.watch(parent.pid, own.append)
    child.signal(signal.SIGKILL)
    turn_until(loop, lambda: ends and own)
    parent.stdout.close()
    parent.returncode = 0  # reaped above
    assert ends == [UNSEEN] and own == [Exit(code=0)]


def test_a_stranger_is_killed_after_a_while_and_a_watched_child_is_not(
    loop: Loop, children: Children
) -> None:
    known, stranger = sleeper(), sleeper()
    ends: list[Exit] = []
    child = children.watch(known, ends.append)
    turn_until(loop, lambda: stranger in children._unclaimed)
    assert children._unclaimed[stranger] == Exit(signal=9)
    assert child.alive and not ends
    child.signal(signal.SIGKILL)
    turn_until(loop, lambda: ends)


def test_nobody_is_watched_who_is_not_there(children: Children) -> None:
    with pytest.raises(ProcessLookupError):
        children.watch(2**22 - 1, lambda _: None)


def test_what_is_always_replaced_is_replaced_at_once_but_for_a_crash_loop() -> None:
    replacing = Replacing()
    assert [replacing.died(5.0) for _ in range(20)] == [0.0] * 20
    assert [replacing.died(0.1) for _ in range(5)] == [0.0, 0.0, 0.1, 0.2, 0.4]
    assert [replacing.died(0.1) for _ in range(10)][-1] == 5.0
    assert replacing.died(60.0) == 0.0 and replacing.died(0.1) == 0.0
    assert replacing.count == 37
