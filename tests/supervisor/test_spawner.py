"""The spawner is replaced when it ends, and what it ended of is known. A program that only sleeps stands in for it."""

import os
import signal
import sys

from emperor.supervisor.children import Children
from emperor.supervisor.loop import Loop
from emperor.supervisor.spawner import Spawner

from .turning import Told, turn_until

SLEEP = (sys.executable, "-c", "import time; time.sleep(60)")


def test_its_last_exit_is_that_of_the_one_before(loop: Loop) -> None:
    log = Told()
    children = Children(loop, log)
    spawner = Spawner(loop, children, log, dict(os.environ), SLEEP)
    spawner.start()
    first = spawner.pid
    assert (spawner.restarts, spawner.last_exit) == (0, "")
    os.kill(first, signal.SIGKILL)
    turn_until(loop, lambda: spawner.pid not in (0, first))
    assert (spawner.restarts, spawner.last_exit) == (1, "killed by signal 9 (SIGKILL)")
    spawner.kill()
    ended: list[bool] = []
    spawner.stop(lambda: ended.append(True))
    turn_until(loop, lambda: ended)
    children.close()


def test_one_that_cannot_be_started_says_why(loop: Loop) -> None:
    log = Told()
    children = Children(loop, log)
    spawner = Spawner(loop, children, log, dict(os.environ), ("/no/such/program",))
    spawner.start()
    assert (spawner.pid, spawner.restarts) == (0, 1)
    assert spawner.last_exit == "cannot start the spawner: /no/such/program: No such file or directory"
    spawner.close()
    children.close()
