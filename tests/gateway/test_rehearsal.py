"""`vassals.rehearsal` in an interpreter of its own: nothing remains of it but what was learnt."""

import subprocess
import sys

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
            sys.dont_write_bytecode, dict(os.environ), sys.stdout, sys.stderr)

before, modules = state(), set(sys.modules)
rehearsal.rehearse()
rehearsal.fill_gaps()
assert state() == before, (before, state())
print(*sorted(set(sys.modules) - modules))
"""


def test_nothing_remains_of_it() -> None:
    done = subprocess.run([sys.executable, "-P", "-c", SCRIPT], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == []
