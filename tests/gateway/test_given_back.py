"""`vassals.pages` in interpreters of their own: what it does to one cannot be undone."""

import os
import subprocess
import sys
from textwrap import dedent

import pytest

PRELUDE = """
import gc, os, re, sys, threading
from vassals import pages

things = [[number] for number in range(50_000)]

def own_kb():
    return int(open("/proc/self/smaps_rollup").read().split("Anonymous:")[1].split()[0])

def in_fork(run):
    pid = os.fork()
    if pid == 0:
        try:
            pages.see()
            run()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    status = os.waitpid(pid, 0)[1]
    assert status == 0, status
"""


def play(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", PRELUDE + dedent(script)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_pages_that_are_as_they_were_are_given_back() -> None:
    play("""
    gc.collect()
    gc.freeze()
    assert pages.keep() > 4 << 20

    def run():
        for thing in things:  # each count goes up and down again
            pass
        before = own_kb()
        given = pages.give_back()
        assert given > 2 << 20
        assert own_kb() < before - 2048
        assert things == [[number] for number in range(50_000)]

    in_fork(run)
    in_fork(run)
    """)


def test_what_a_fork_has_changed_stays_changed() -> None:
    play("""
    assert pages.keep()

    def run():
        for number in range(0, 50_000, 7):
            things[number].append(number)
        new = [str(number) for number in range(50_000)]
        pages.give_back()
        assert things == [[number] if number % 7 else [number, number] for number in range(50_000)]
        assert new == [str(number) for number in range(50_000)]
        del new
        gc.collect()
        pages.give_back()
        import decimal, email.message, xml.dom.minidom
        assert str(decimal.Decimal("0.1") * 3) == "0.3"

    in_fork(run)
    assert things == [[number] for number in range(50_000)]
    """)


def test_what_the_interpreter_has_noted_of_types_is_as_it_was_and_still_true() -> None:
    """Its cache of methods: an entry counts its name, and stands for a type as that was."""
    play("""
    class Base:
        def kept(self): return "kept"
        def changed(self): return "before"

    class Derived(Base): pass

    one = Derived()
    names = ["sought_%d" % number for number in range(20_000)]
    assert pages.empty_methods_cache()
    known = sys.intern("sought_before")
    assert (hasattr(one, known), one.kept(), one.changed(), hasattr(one, "new")) == (False, "kept", "before", False)
    counts = [sys.getrefcount(name) for name in names]
    known_count = sys.getrefcount(known)
    assert pages.keep()

    def run():
        for name in names:
            hasattr(one, name)
        assert sum(sys.getrefcount(name) for name in names) > sum(counts)
        Base.changed = lambda self: "after"
        Base.new = True
        for name in ["made_" + str(number) for number in range(20_000)]:  # of which there is nothing but its entry
            hasattr(one, name)
        pages.give_back()
        assert [sys.getrefcount(name) for name in names] == counts
        assert sys.getrefcount(known) == known_count + 1  # the entry's, which nothing can take away
        assert (hasattr(one, known), one.kept(), one.changed(), one.new) == (False, "kept", "after", True)
        del Base.kept
        assert not hasattr(one, "kept")
        pages.give_back()
        assert not hasattr(one, "kept")

    in_fork(run)
    assert (one.kept(), one.changed(), hasattr(one, "new")) == ("kept", "before", False)
    """)


def test_nothing_is_given_back_beside_another_thread() -> None:
    """It might write to a page between the look and the drop, and its write would be lost."""
    play("""
    assert pages.keep()

    def run():
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait)
        thread.start()
        for thing in things:
            pass
        assert pages.give_back() == 0
        stop.set()
        thread.join()
        while pages.threads() > 1:  # its process's part of it ends a little later
            pass
        assert pages.give_back() > 0

    in_fork(run)
    """)


def test_nothing_is_given_back_by_a_process_that_has_not_looked() -> None:
    """What its starter has looked at are the starter's pages."""
    play("""
    assert pages.keep()
    assert pages.give_back() == 0  # neither has this one

    def run():
        def child():
            for thing in things:
                pass
            assert pages.give_back() > 0
            pages.unsee()
            assert pages.give_back() == 0

        pid = os.fork()
        if pid == 0:
            os._exit(0 if pages.give_back() == 0 else 1)
        assert os.waitpid(pid, 0)[1] == 0
        in_fork(child)
        assert pages.give_back() > 0

    in_fork(run)
    """)


def test_what_the_thread_and_the_kernel_keep_for_themselves_is_left_out() -> None:
    play("""
    import ctypes
    errno_place = ctypes.CDLL(None).__errno_location
    errno_place.restype = ctypes.c_void_p
    own = errno_place()
    found = pages.worthwhile()
    assert found and not any(low <= own < high for low, high in found)
    """)


def test_no_fork_can_write_to_the_original() -> None:
    """A tenant's process has it mapped, and so has everybody else's."""
    play("""
    assert pages.keep()

    def run():
        for line in open("/proc/self/maps"):
            if "emperor-original" in line:
                assert line.split()[1][3] == "p", line
                for mode in (os.O_RDWR, os.O_WRONLY):
                    low, high = (int(each, 16) for each in line.split()[0].split("-"))
                    try:
                        os.write(os.open(f"/proc/self/map_files/{low:x}-{high:x}", mode), b"x")
                    except OSError:
                        continue
                    raise AssertionError(line)

    in_fork(run)
    """)


def test_a_signal_in_between_is_not_lost() -> None:
    play("""
    import signal
    assert pages.keep()

    def run():
        heard = []
        signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
        for round in range(200):
            os.kill(os.getpid(), signal.SIGUSR1)
            pages.give_back()
            assert len(heard) == round + 1

    in_fork(run)
    """)


def test_it_is_made_once_and_not_beside_threads() -> None:
    play("""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    assert pages.keep() == 0 and pages.give_back() == 0
    stop.set()
    thread.join()
    while pages.threads() > 1:  # its process's part of it ends a little later
        pass
    assert pages.keep() > 0
    assert pages.keep() == 0
    """)


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_that_has_changed_its_user_gives_back_too(when: str) -> None:
    """It may not open its own page map: a gateway has done so before, a worker says that its user may look."""
    play(
        f"""
    assert pages.keep()
    before_change = {when == "before"}
    """
        """
    def run():
        if not before_change:
            pages.unsee()
        os.setgid(65534)
        os.setuid(65534)
        try:
            open("/proc/self/pagemap", "rb").close()
            raise AssertionError("this proves nothing")
        except PermissionError:
            pass
        if not before_change:
            pages.see_as_tenant()
        try:
            open("/proc/self/pagemap", "rb").close()
            raise AssertionError("it is still open to its user")
        except PermissionError:
            pass
        for number in range(0, 50_000, 7):
            things[number].append(number)
        before = own_kb()
        assert pages.give_back() > 0
        assert own_kb() < before
        assert things == [[number] if number % 7 else [number, number] for number in range(50_000)]

    in_fork(run)
    """
    )


@pytest.mark.skipif(os.getuid() != 0, reason="without the right nobody is told in any case")
def test_the_open_page_map_does_not_tell_where_in_the_machine_a_page_is() -> None:
    play("""
    assert pages.keep()

    def run():
        fd, = [int(fd) for fd in os.listdir("/proc/self/fd")
               if os.path.realpath(f"/proc/self/fd/{fd}").endswith("/pagemap")]
        entry = int.from_bytes(os.pread(fd, 8, id(things) // 4096 * 8), "little")
        assert entry >> 63 and entry & (1 << 55) - 1 == 0
        with open("/proc/self/pagemap", "rb") as file:  # and this process may still ask for it
            file.seek(id(things) // 4096 * 8)
            assert int.from_bytes(file.read(8), "little") & (1 << 55) - 1

    in_fork(run)
    """)
