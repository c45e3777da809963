"""`vassals.atfork` in an interpreter of its own, which forks as the spawner, a gateway and a worker's app do."""

import subprocess
import sys
from textwrap import dedent

PRELUDE = """
import os, sys
from vassals import atfork
atfork.hold()
import logging, random, threading

def in_fork(run):
    pid = os.fork()
    if pid == 0:
        try:
            run()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0

before = random.getstate(), threading._active_limbo_lock
"""


def play(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", PRELUDE + dedent(script)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_nothing_is_done_before_release_and_all_of_it_then() -> None:
    play("""
    def gateway():
        assert (random.getstate(), threading._active_limbo_lock) == before
        atfork.release()
        assert random.getstate() != before[0]
        assert threading._active_limbo_lock is not before[1]

    in_fork(gateway)
    """)


def test_where_there_was_no_other_thread_locks_are_left_and_only_they() -> None:
    play("""
    atfork.alone()

    def gateway():
        atfork.release()
        assert random.getstate() != before[0]
        assert threading._active_limbo_lock is before[1]

    in_fork(gateway)
    """)


def test_a_forks_own_forks_do_all_of_it_again() -> None:
    play("""
    atfork.alone()

    def worker():
        atfork.release()
        held, seeded = threading._active_limbo_lock, random.getstate()
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait)
        thread.start()
        held.acquire()

        def child():
            assert threading._active_limbo_lock is not held
            assert random.getstate() != seeded
            assert threading.enumerate() == [threading.main_thread()]
            assert not thread.is_alive()

        in_fork(child)
        held.release()
        stop.set()
        thread.join()

    in_fork(worker)
    """)


def test_threads_work_in_a_worker_whose_locks_were_left() -> None:
    play("""
    atfork.alone()

    def worker():
        atfork.release()
        log = []
        logging.getLogger().addHandler(logging.NullHandler())
        threads = [threading.Thread(target=lambda: (logging.warning("x"), log.append(1))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert len(log) == 8
        assert threading.current_thread() is threading.main_thread()
        threading._shutdown()

    in_fork(worker)
    """)
