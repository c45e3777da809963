"""A client that has gone: while it waited, the app never runs it; while it ran, the slot stays busy until the
app returns."""

from .harness import Connection, Fleet, begun_requests, wait_for
from .harness.probe import Probe
from .test_router_gone import waiting


def test_gone_while_waiting(fleet: Fleet) -> None:
    fleet.nonce_vassal("a")
    fleet.start()
    running = Probe(fleet, "a", "running", "&sleep=4000")
    running.begun()
    clients = []
    for number in range(45):  # more than a deck holds
        clients.append(Connection(fleet.http_port))
        clients[-1].send(f"GET /?n=gone{number} HTTP/1.1\r\nHost: a.localhost\r\n\r\n".encode())
    wait_for(lambda: waiting(fleet) == len(clients), 10, lambda: waiting(fleet))
    for number, client in enumerate(clients):
        client.reset() if number % 2 else client.close()
    wait_for(lambda: waiting(fleet) == 0, 10, lambda: waiting(fleet))
    assert running.seen().status == 200
    assert fleet.get("a", "/?n=after").status == 200
    assert [entry.nonce for entry in begun_requests(fleet.nonce_log("a"))] == ["running", "after"]


def test_gone_while_running(fleet: Fleet) -> None:
    fleet.nonce_vassal("a")
    fleet.start()
    client = Connection(fleet.http_port)
    client.send(b"GET /?n=gone&sleep=1000 HTTP/1.1\r\nHost: a.localhost\r\n\r\n")
    log = fleet.nonce_log("a")
    wait_for(lambda: begun_requests(log), 10)
    client.reset()
    next_one = Probe(fleet, "a", "next")
    assert next_one.seen().status == 200
    gone, after = begun_requests(log)
    assert after.at_s - gone.at_s >= 1.0
    assert after.pid == gone.pid
