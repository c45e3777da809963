"""Starting and burying real processes."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emperor.supervisor import process
from emperor.supervisor.process import Exit, state_of
from tests.scenarios.harness.waiting import wait_for


def wait_exit(pid: int) -> Exit:
    return Exit.from_status(os.waitpid(pid, 0)[1])


def child(code: str, timeout_s: float = 30) -> str:
    """Run a program that may do to itself what a test process must not."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


LOOK = """
import json, os, signal
fds = {}
for name in os.listdir('/proc/self/fd'):
    try: fds[name] = os.readlink('/proc/self/fd/' + name)
    except FileNotFoundError: pass
status = dict(line.split(':\\t') for line in open('/proc/self/status').read().splitlines() if ':\\t' in line)
os.write(5, json.dumps({'fds': fds, 'env': dict(os.environ), 'sid': os.getsid(0), 'pid': os.getpid(),
    'ignored': status['SigIgn'], 'blocked': status['SigBlk']}).encode())
"""


def test_a_program_gets_what_is_on_the_list_and_nothing_else(tmp_path: Path) -> None:
    inherited = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(inherited, True)
    read_end, write_end = os.pipe()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        # The two numbers are each other's, so that copying in place would lose one.
        pid = process.spawn_exec(
            [sys.executable, "-S", "-c", LOOK],
            {"ONLY": "this"},
            {5: write_end, write_end: 2, 2: 2},
            "the test",
        )
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
        signal.signal(signal.SIGHUP, before)
        os.close(write_end)
        os.close(inherited)
    assert wait_exit(pid).code == 0
    seen = json.loads(os.read(read_end, 65536))
    os.close(read_end)
    assert set(map(int, seen["fds"])) == {0, 1, 2, 5, write_end}
    assert seen["fds"]["0"] == seen["fds"]["1"] == "/dev/null" and seen["fds"]["5"].startswith("pipe:")
    assert {key: value for key, value in seen["env"].items() if key != "LC_CTYPE"} == {"ONLY": "this"}
    assert seen["sid"] == seen["pid"] == pid
    assert int(seen["blocked"], 16) == 0 and not int(seen["ignored"], 16) & 1 << signal.SIGHUP - 1


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(process.StartError, match="cannot start the router: /no/python: No such file"):
        process.spawn_exec(["/no/python"], {}, {}, "the router")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("raise SystemExit(70)", "exited with code 70"),
        ("import os; os.kill(os.getpid(), 9)", "killed by signal 9 (SIGKILL)"),
        ("import os; os.kill(os.getpid(), 40)", "killed by signal 40 (a real-time signal)"),
    ],
)
def test_how_it_ended_reads_well(code: str, text: str) -> None:
    assert wait_exit(process.spawn_exec([sys.executable, "-c", code], {}, {}, "it")).text == text


def test_an_unseen_end_says_so() -> None:
    assert process.UNSEEN.text == "died unsupervised"


def test_reap_buries_all_that_ended_and_waits_for_none() -> None:
    code = """
import os, time
from emperor.supervisor import process
ended = [process.spawn_exec(['/bin/sh', '-c', f'exit {n}'], {}, {}, 'it') for n in range(3)]
alive = process.spawn_exec(['/bin/sleep', '60'], {}, {}, 'it')
seen = []
while len(seen) < 3:
    seen += process.reap()
    time.sleep(0.01)
assert sorted((pid, end.code) for pid, end in seen) == list(zip(sorted(ended), range(3))), seen
assert process.children() == {alive}
os.kill(alive, 9)
while not (last := process.reap()):
    time.sleep(0.01)
assert last == [(alive, process.Exit(signal=9))] and process.reap() == []
"""
    child(code)


def test_a_pidfd_tells_of_the_end_and_signals_exactly_that_process() -> None:
    pid = process.spawn_exec(["/bin/sleep", "60"], {}, {}, "it")
    pidfd = process.pidfd_open(pid)
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    assert not poller.poll(0)
    assert process.signal_pidfd(pidfd, signal.SIGKILL)
    assert poller.poll(10_000)
    wait_exit(pid)
    assert not process.signal_pidfd(pidfd, signal.SIGKILL)
    os.close(pidfd)


def test_the_start_time_names_one_process() -> None:
    pid = process.spawn_exec(["/bin/sleep", "60"], {}, {}, "it")
    try:
        assert process.start_time(pid) == process.start_time(pid) >= process.start_time(os.getpid()) > 0
        assert process.uid_of(pid) == os.getuid()
    finally:
        os.kill(pid, signal.SIGKILL)
        wait_exit(pid)
    assert process.uid_of(pid) is None
    with pytest.raises(ProcessLookupError):
        process.start_time(pid)


def test_the_start_time_of_a_process_with_an_odd_name(tmp_path: Path) -> None:
    odd = tmp_path / "a) R 1 (b"
    odd.symlink_to("/bin/sleep")
    pid = process.spawn_exec([str(odd), "60"], {}, {}, "it")
    try:
        assert process.start_time(pid) >= process.start_time(os.getpid())
    finally:
        os.kill(pid, signal.SIGKILL)
        wait_exit(pid)


def test_a_stopped_process_is_told_from_one_that_waits() -> None:
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        wait_for(lambda: state_of(sleeper.pid) == "S", 20)
        os.kill(sleeper.pid, signal.SIGSTOP)
        wait_for(lambda: state_of(sleeper.pid) == "T", 20)
    finally:
        sleeper.kill()
        sleeper.wait()
    assert state_of(sleeper.pid) == ""


def test_closing_all_but_a_few_takes_no_time_at_any_limit() -> None:
    most = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 1_000_000)
    code = f"""
import os, resource, time
from emperor.supervisor import process
resource.setrlimit(resource.RLIMIT_NOFILE, ({most}, {most}))
for target in (50, 51, 60, {most - 1}):
    os.dup2(2, target)
before = time.process_time()
process.close_except((0, 1, 2, 51))
assert time.process_time() - before < 0.2
print(sorted(int(fd) for fd in os.listdir('/proc/self/fd'))[:4], len(os.listdir('/proc/self/fd')))
"""
    # The fifth is listdir's own.
    assert child(code).split("]")[0] == "[0, 1, 2, 3" and "51" not in child(
        code.replace("(0, 1, 2, 51)", "(0, 1, 2)")
    )


def test_without_close_range_the_same_is_closed() -> None:
    code = """
import os
from emperor.supervisor import process
process.calls = type('', (), {'close_range': staticmethod(lambda *_: False)})
for target in (50, 51, 60):
    os.dup2(2, target)
process.forbid_inheritance()
assert not os.get_inheritable(50)
process.close_except((0, 1, 2, 51))
for fd in (50, 60):
    try: os.fstat(fd)
    except OSError: continue
    raise AssertionError(fd)
os.fstat(51)
"""
    child(code)


def test_a_subreaper_inherits_and_a_parents_death_is_told() -> None:
    code = """
import os, signal, time
from emperor.supervisor import process
process.set_subreaper()
read_end, write_end = os.pipe()
middle = os.fork()
if middle == 0:
    parent = os.getpid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, lambda *_: os.write(write_end, b'told'))
        process.set_parent_death_signal(signal.SIGTERM)
        if os.getppid() == parent:
            os.write(write_end, b'armed ')
        time.sleep(30)
        os._exit(5)
    time.sleep(30)
while os.read(read_end, 6) != b'armed ': pass
orphan, = map(int, open(f'/proc/{middle}/task/{middle}/children').read().split())
os.kill(middle, 9)
os.waitpid(middle, 0)
assert os.read(read_end, 6) == b'told'
assert process.children() == {orphan}
os.kill(orphan, 9)
os.waitpid(orphan, 0)
"""
    child(code)


def test_children_of_every_thread_are_found() -> None:
    code = """
import os, threading
from emperor.supervisor import process
pids = []
started, done = threading.Event(), threading.Event()
def run():
    pids.append(process.spawn_exec(['/bin/sleep', '60'], {}, {}, 'it'))
    started.set()
    done.wait()
thread = threading.Thread(target=run)
thread.start()
started.wait()
assert process.children() == set(pids)
done.set()
thread.join()
os.kill(pids[0], 9)
os.waitpid(pids[0], 0)
"""
    child(code)


def test_restored_signals_are_a_new_interpreters() -> None:
    code = """
import os, signal
from emperor.supervisor import process
signal.signal(signal.SIGCHLD, lambda *_: None)
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
read_end, write_end = os.pipe()
os.set_blocking(write_end, False)
signal.set_wakeup_fd(write_end)
process.restore_signals((signal.SIGCHLD, signal.SIGINT))
assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
assert signal.set_wakeup_fd(-1) == -1
"""
    child(code)


def test_a_start_is_quick_however_many_descriptors_may_be_open() -> None:
    before = time.monotonic()
    wait_exit(process.spawn_exec(["/bin/true"], {}, {}, "it"))
    # A close for each of a million possible descriptors is some 0.3 s of processor time, of the child's or ours.
    assert time.monotonic() - before < 20
