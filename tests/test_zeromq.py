"""A worker's own socket of libzmq, beside pyzmq's."""

import errno
import select
import subprocess
import sys
from pathlib import Path

import pytest
import zmq

from emperor import zeromq

NUMBERS = [name for name in dir(zeromq) if isinstance(getattr(zeromq, name), int)]


@pytest.mark.parametrize("name", NUMBERS)
def test_the_numbers_are_libzmqs(name: str) -> None:
    assert getattr(zeromq, name) == int(getattr(zmq, name))


def test_there_are_numbers() -> None:
    assert len(NUMBERS) == 22


def test_it_speaks_with_pyzmqs(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/s"
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.bind(endpoint)
        ours = zeromq.Context()
        socket = ours.socket(zeromq.DEALER)
        socket.set(zeromq.ROUTING_ID, b"me")
        socket.set(zeromq.LINGER, 0)
        socket.connect(endpoint)
        wire = zeromq.Wire(socket)
        assert wire.send(b"hello") == 0
        assert router.poll(5000)
        assert router.recv_multipart() == [b"me", b"hello"]
        router.send_multipart([b"me", b"answer"])
        while not wire.events() & zeromq.POLLIN:
            assert select.select([socket.fd()], [], [], 5)[0]
        assert wire.receive() == b"answer"
        del wire
        ours.destroy()
        assert ours.destroy() is None


def test_a_watch_tells_of_the_end(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/s"
    ours = zeromq.Context()
    socket = ours.socket(zeromq.DEALER)
    socket.set(zeromq.RECONNECT_IVL, -1)
    monitor = socket.watch(zeromq.EVENT_DISCONNECTED | zeromq.EVENT_CLOSED, zeromq.PAIR)
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.bind(endpoint)
        socket.connect(endpoint)
        while not socket.events() & zeromq.POLLOUT:
            assert select.select([socket.fd()], [], [], 5)[0]
        assert not monitor.events() & zeromq.POLLIN
    while not monitor.events() & zeromq.POLLIN:
        assert select.select([monitor.fd()], [], [], 5)[0]
    socket.unwatch()
    ours.destroy()


def test_what_libzmq_refuses_is_said() -> None:
    ours = zeromq.Context()
    socket = ours.socket(zeromq.DEALER)
    with pytest.raises(zeromq.SocketError, match="Invalid argument") as caught:
        socket.connect("nowhere")
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(zeromq.SocketError):
        socket.set(zeromq.ROUTING_ID, b"")
    socket.close()
    socket.close()
    for call in (socket.events, socket.fd, lambda: socket.connect("inproc://a")):
        with pytest.raises(zeromq.SocketError, match=r"non-socket|not a socket"):
            call()
    ours.destroy()
    with pytest.raises(zeromq.SocketError):
        ours.socket(zeromq.DEALER)


def test_pyzmq_is_not_run_for_it() -> None:
    script = "import sys, emperor.zeromq; print([name for name in sys.modules if name.startswith('zmq')])"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_without_pyzmq_it_says_what_to_install() -> None:
    script = "import importlib.util as util; util.find_spec = lambda name: None; import emperor.zeromq"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, timeout=60)
    assert "install pyzmq 26 or newer" in done.stderr
