"""The poll loop on real descriptors, signals, threads and pidfds."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from emperor.control.channel import Channel
from emperor.supervisor import process, signals
from emperor.supervisor.loop import Loop

from .turning import turn_until


@pytest.fixture(params=["poll", "epoll"])
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    made = Loop(many=request.param == "epoll")
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_reading_writing_and_stopping_to(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    seen: list[str] = []
    loop.watch(one.fileno(), lambda: seen.append(one.recv(10).decode()), lambda: seen.append("w"))
    loop.step()
    assert seen == ["w"]
    loop.update(one.fileno(), lambda: seen.append(one.recv(10).decode()))
    loop.step()
    other.send(b"hello")
    loop.step()
    assert seen == ["w", "hello"]
    loop.unwatch(one.fileno())
    loop.unwatch(one.fileno())
    other.send(b"more")
    loop.step()
    assert seen == ["w", "hello"]


def test_a_hang_up_is_something_to_read(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    seen: list[bytes] = []
    loop.watch(one.fileno(), lambda: (seen.append(one.recv(10)), loop.unwatch(one.fileno()))[0])
    other.close()
    loop.step()
    assert seen == [b""]


def test_one_watch_a_descriptor(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    loop.watch(pair[0].fileno(), lambda: None)
    with pytest.raises(KeyError, match="watched already"):
        loop.watch(pair[0].fileno(), lambda: None)
    loop.unwatch(pair[0].fileno())


def test_what_a_callback_unwatched_is_not_called_in_the_same_turn(loop: Loop) -> None:
    seen: list[int] = []
    pairs = [socket.socketpair() for _ in range(2)]
    ours = [one for one, _ in pairs]

    def taken(index: int) -> None:
        seen.append(index)
        for sock in ours:
            loop.unwatch(sock.fileno())

    for index, (one, other) in enumerate(pairs):
        loop.watch(one.fileno(), lambda index=index: taken(index))  # type: ignore[misc]
        other.send(b"x")
    loop.step()
    assert len(seen) == 1
    for one, other in pairs:
        one.close()
        other.close()


def test_an_event_is_never_taken_for_one_of_a_new_descriptor_of_the_same_number(loop: Loop) -> None:
    """The end of a process is said twice in one turn, by SIGCHLD and by its pidfd. Whoever acts on the first closes
    the pidfd and starts another process, whose pidfd has the same number: it is not that one which has ended."""
    bell, ringer = os.pipe()
    old, other = os.pipe()
    new: list[tuple[int, int]] = []
    called: list[str] = []

    def replace() -> None:
        loop.unwatch(bell)
        loop.unwatch(old)
        os.close(old)
        new.append(os.pipe())
        assert new[0][0] == old, "the lowest free number is taken"
        loop.watch(old, lambda: called.append("new"))

    loop.watch(bell, replace)
    loop.watch(old, lambda: called.append("old"))
    os.write(ringer, b"x")
    os.write(other, b"x")
    loop.step(1)
    assert called == []
    loop.step(0)
    assert called == [], "nothing was written into the new one"
    os.write(new[0][1], b"x")
    loop.step(1)
    assert called == ["new"]
    loop.unwatch(old)
    for fd in (bell, ringer, other, *new[0]):
        os.close(fd)


def test_timers_run_in_their_order_and_not_when_cancelled(loop: Loop) -> None:
    seen: list[str] = []
    now = loop.now()
    loop.call_at(now + 0.02, seen.append, "second")
    loop.call_at(now + 0.01, seen.append, "first")
    cancelled = loop.call_later(0.0, seen.append, "never")
    cancelled.cancel()
    kept = loop.call_later(0.03, seen.append, "third")
    assert kept.pending and not cancelled.pending
    turn_until(loop, lambda: len(seen) == 3)
    assert seen == ["first", "second", "third"] and not kept.pending
    assert loop.now() >= now + 0.03


def test_run_until_stopped(loop: Loop) -> None:
    loop.call_later(0.01, loop.stop)
    loop.run()


def test_a_call_from_another_thread_wakes_the_loop(loop: Loop) -> None:
    seen: list[int] = []
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(seen.append, threading.get_ident()))
    timer = loop.call_later(10, lambda: None)
    before = time.monotonic()
    thread.start()
    turn_until(loop, lambda: seen)
    thread.join()
    assert seen == [thread.ident] and time.monotonic() - before < 5
    timer.cancel()


def test_calls_from_threads_that_outnumber_the_pipe_all_come(loop: Loop) -> None:
    seen: list[int] = []
    for number in range(70_000):
        loop.call_soon_threadsafe(seen.append, number)
    loop.step()
    loop.step()
    assert seen == list(range(70_000))


def test_a_call_after_the_end_is_nothing() -> None:
    loop = Loop()
    loop.close()
    loop.close()
    loop.call_soon_threadsafe(lambda: None)


def test_signals_are_calls_in_the_loop_and_are_given_back() -> None:
    loop = Loop()
    before = signal.getsignal(signal.SIGUSR1)
    seen: list[str] = []
    loop.on_signal(signal.SIGUSR1, lambda: seen.append("usr1"))
    loop.on_signal(signal.SIGUSR2, lambda: seen.append("usr2"))
    os.kill(os.getpid(), signal.SIGUSR2)
    assert seen == []
    turn_until(loop, lambda: seen)
    assert seen == ["usr2"]
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_process_s_end_is_told_once(loop: Loop) -> None:
    pid = process.spawn_exec(["/bin/true"], {}, {}, "it")
    pidfd = process.pidfd_open(pid)
    seen: list[int] = []
    loop.watch_pid(pidfd, lambda: seen.append(pid))
    turn_until(loop, lambda: seen)
    loop.step(0.01)
    assert seen == [pid]
    os.waitpid(pid, 0)
    os.close(pidfd)


def test_a_channel_writes_on_while_it_queues_and_only_then(loop: Loop) -> None:
    one, other = (Channel(sock) for sock in socket.socketpair())
    loop.watch_channel(one, lambda: one.receive())
    message = {"text": "x" * 3_000_000}
    one.send(message)
    received: list[Any] = []
    turn_until(loop, lambda: received.extend(other.receive()) or received)
    assert received == [(message, [])] and not one.wants_write
    loop.step()
    loop.unwatch(one.fileno())
    one.close()
    other.close()


def test_what_a_callback_raises_leaves_the_loop_or_goes_to_on_error() -> None:
    def fail() -> None:
        raise ZeroDivisionError("oops")

    loop = Loop()
    loop.call_soon(fail)
    with pytest.raises(ZeroDivisionError):
        loop.step()
    loop.close()
    errors: list[Exception] = []
    seen: list[int] = []
    loop = Loop(on_error=errors.append)
    loop.call_soon(fail)
    loop.call_soon(seen.append, 1)
    loop.step()
    assert [str(error) for error in errors] == ["oops"] and seen == [1]
    loop.close()


def test_an_idle_loop_does_not_spin(loop: Loop) -> None:
    loop.call_later(0.2, loop.stop)
    before = time.thread_time()
    loop.run()
    assert time.thread_time() - before < 0.05


def test_signals_that_nobody_has_acted_on_can_be_taken_and_put_back(loop: Loop) -> None:
    seen: list[str] = []
    loop.on_signal(signal.SIGUSR1, lambda: seen.append("one"))
    loop.on_signal(signal.SIGUSR2, lambda: seen.append("two"))
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR2)
    noted = loop.take_signals()
    loop.step()
    assert (sorted(noted), seen, loop.take_signals()) == ([signal.SIGUSR1, signal.SIGUSR2], [], [])
    assert loop.is_idle
    loop.put_signals(noted)
    assert not loop.is_idle
    loop.step()
    assert sorted(seen) == ["one", "two"]


def test_a_thread_takes_no_signal() -> None:
    masks: list[set[int]] = []
    thread = threading.Thread(target=lambda: masks.append(set(signal.pthread_sigmask(signal.SIG_BLOCK, ()))))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    signals.start_deaf(thread)
    thread.join()
    assert {signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGCHLD} <= masks[0]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
