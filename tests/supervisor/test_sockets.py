"""Addresses and bound sockets: one spelling each, errors that name who and why, nothing living ever
replaced."""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from emperor.supervisor import sockets
from emperor.supervisor.sockets import Address, AddressError, BindError


@pytest.fixture
def short(tmp_path: Path) -> Iterator[Path]:
    """A directory whose path is short enough for unix sockets, whatever pytest's is."""
    before = os.getcwd()
    os.chdir(tmp_path)
    yield Path(".")
    os.chdir(before)


@pytest.mark.parametrize(
    ("text", "spelt", "url"),
    [
        ("127.0.0.1:8080", "127.0.0.1:8080", "http://127.0.0.1:8080/"),
        (":80", "0.0.0.0:80", "http://127.0.0.1:80/"),
        ("[::1]:80", "[::1]:80", "http://[::1]:80/"),
        ("localhost:80", "localhost:80", "http://localhost:80/"),
        ("unix:/run/x.sock", "unix:/run/x.sock", "unix:/run/x.sock"),
        ("/run/../run/x.sock", "unix:/run/x.sock", "unix:/run/x.sock"),
    ],
)
def test_addresses(text: str, spelt: str, url: str) -> None:
    address = Address.parse(text)
    assert (str(address), address.url) == (spelt, url)
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text", ["", "8080", "localhost", "localhost:", "x:99999", "::1:80", "unix:", "a:b", "x:８０"]
)
def test_no_addresses(text: str) -> None:
    with pytest.raises(AddressError):
        Address.parse(text)


def test_a_taken_port_names_the_address_and_who_has_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BindError, match=rf"127\.0\.0\.1:{port}: .*\(pid {os.getpid()}\)"):
            sockets.listen(Address.parse(f"127.0.0.1:{port}"))


def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(BindError, match=r"192\.0\.2\.1"):
        sockets.listen(Address.parse("192.0.2.1:0"))


def test_a_port_can_be_had_again_at_once() -> None:
    with sockets.listen(Address.parse("127.0.0.1:0")) as first:
        port = first.getsockname()[1]
        assert not first.getblocking()
        client = socket.create_connection(("127.0.0.1", port))
        first.setblocking(True)
        first.accept()[0].close()  # ours ends first: TIME_WAIT is ours
        client.close()
    sockets.listen(Address.parse(f"127.0.0.1:{port}")).close()


def test_a_stale_unix_socket_is_replaced_a_living_one_never(tmp_path: Path) -> None:
    address = Address(path=str(tmp_path / "s"))
    with sockets.listen(address, 0o660):
        assert stat.S_IMODE(os.stat(address.path).st_mode) == 0o660
        with pytest.raises(BindError, match="another program listens"):
            sockets.listen(address)
    sockets.listen(address).close()


def test_a_file_that_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(BindError, match="something else than a socket"):
        sockets.listen(Address(path=str(path)))
    assert path.read_text() == "data"


def test_a_backplane_belongs_to_its_vassal(tmp_path: Path) -> None:
    path = str(tmp_path / "bp")
    with sockets.listen_backplane(path, None, None) as sock:
        status = os.stat(path)
        assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o600, os.geteuid())
        assert not sock.getblocking(), "two holders of a blocking one stall each other"
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        if os.geteuid() == 0:
            sockets.own(path, 12345, 12346)
            status = os.stat(path)
            assert (status.st_uid, status.st_gid) == (12345, 12346)


def test_a_control_socket_does_not_listen_until_its_owner_does(tmp_path: Path) -> None:
    path = str(tmp_path / "c")
    assert not sockets.is_bound(path)
    with sockets.bind_control(path) as sock:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
            client.connect(path)
        assert sockets.is_bound(path), "somebody may listen yet"
        sock.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
    assert not sockets.is_bound(path)


def test_nobody_sends_descriptors_to_a_listener_of_ours(tmp_path: Path) -> None:
    """Where the system can keep them from it: it has closed what nobody took, in our time."""
    path = str(tmp_path / "plane")
    with socket.socket(socket.AF_UNIX) as asked:
        knows = has_passrights(asked)
    with sockets.listen_backplane(path, None, None) as sock, socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        accepted, _ = sock.accept()
        with accepted:
            try:
                socket.send_fds(client, [b"x"], [0])
                refused = False
            except PermissionError:
                refused = True
            assert refused is knows
            client.send(b"y")
            assert accepted.recv(2).endswith(b"y")


def has_passrights(sock: socket.socket) -> bool:
    try:
        sock.getsockopt(socket.SOL_SOCKET, sockets.SO_PASSRIGHTS)
    except OSError:
        return False
    return True


def test_datagrams_by_a_unix_socket_come_with_who_sends_them(short: Path) -> None:
    address = Address(path=str(short / "s"))
    with sockets.open_at("subscription", address, 0o620) as sock:
        assert sock.type == socket.SOCK_DGRAM
        assert stat.S_IMODE(os.stat("s").st_mode) == 0o620
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.sendto(b"x", "s")
        _, ancillary, _, _ = sock.recvmsg(10, 100)
        assert [kind for _, kind, _ in ancillary] == [socket.SCM_CREDENTIALS]
        with pytest.raises(BindError, match="another program reads there"):
            sockets.receive(address)
    # What a killed one has left is replaced.
    sockets.receive(address).close()


def test_datagrams_by_udp_beside_a_listener_of_the_same_address() -> None:
    with sockets.listen(Address.parse("127.0.0.1:0")) as listener:
        address = Address.parse(f"127.0.0.1:{listener.getsockname()[1]}")
        with sockets.open_at("subscription", address) as sock:
            assert (sock.type, sock.gettimeout()) == (socket.SOCK_DGRAM, 0.0)
            with pytest.raises(BindError, match=r"subscriptions at .* another program has it"):
                sockets.receive(address)
    with sockets.receive(Address.parse("[::1]:0")) as sock:
        assert sock.family == socket.AF_INET6
    with pytest.raises(BindError, match="subscriptions"):
        sockets.receive(Address.parse("192.0.2.1:7000"))
