"""`vassals.rehearsal` in an interpreter of its own: nothing remains of it but what was learnt."""

import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, sys
from vassals import rehearsal, spawner
for name in spawner.WARM:
    __import__(name)

def state():
    actions = [signal.getsignal(each) for each in (1, 2, 15, 17)]
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    return (sorted(os.listdir("/proc/self/fd")), actions, wakeup, sys.path[:], sys.argv[:], os.getcwd(),
            sys.dont_write_bytecode, dict(os.environ), sys.stdout, sys.stderr, sys.meta_path[:],
            sorted(sys.path_importer_cache))

before, modules = state(), set(sys.modules)
rehearsal.rehearse()
held = rehearsal.stand_in()
rehearsal.fill_gaps()
assert state() == before, (before, state())
print(*sorted(set(sys.modules) - modules))
"""


def test_nothing_remains_of_it() -> None:
    done = subprocess.run([sys.executable, "-P", "-c", SCRIPT], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == []


LET_GO = """
import gc, weakref
from vassals import spawner
spawner.warm(rehearsed=True)
stood_in = weakref.ref(spawner._stand_in[0])
assert not gc.isenabled()
for _ in range(5000):
    [].append([])
assert stood_in() is not None
spawner.let_go()
assert stood_in() is None and gc.isenabled()
"""


def test_a_fork_lets_go_of_what_stood_in_for_it() -> None:
    done = subprocess.run([sys.executable, "-P", "-c", LET_GO], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


GAPS = """
from vassals import rehearsal
holes = [bytes(31) for _ in range(10_000)]
at_a_head = [each for each in holes if id(each) % 16384 == 48]
heads = {id(each) for each in at_a_head} | {id(each) + 64 for each in at_a_head}
holes = [each for each in holes if id(each) not in heads]
del at_a_head
pools = {id(each) // 16384 for each in holes}
rehearsal.fill_gaps()
late = [bytes(31) for _ in range(50)]
assert not pools & {id(each) // 16384 for each in late}
"""


def test_no_gap_is_left_where_the_first_blocks_of_pools_are_free_too() -> None:
    done = subprocess.run([sys.executable, "-P", "-c", GAPS], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


STILL = """
import dis
from types import SimpleNamespace
from vassals import bells, rehearsal, spawner
for name in spawner.WARM:
    __import__(name)

def here(spec):
    return bells.count(spec)

def adapted(function):
    both = zip(dis.get_instructions(function, adaptive=True), dis.get_instructions(function))
    return any(now.opname != written.opname for now, written in both)

__name__ = here.__module__ = "app"
rehearsal.keep_still()
for _ in range(100):
    assert here(SimpleNamespace(bells=1, routers=2)) == 3
assert adapted(here)
assert not adapted(bells.count)
"""


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="only CPython 3.11 counts calls in the code")
def test_what_each_fork_runs_a_few_times_is_not_written_to() -> None:
    done = subprocess.run([sys.executable, "-P", "-c", STILL], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
