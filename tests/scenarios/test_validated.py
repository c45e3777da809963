"""The apps of the other scenarios under `wsgiref.validate`: whatever they were written to show, they and the server keep to
PEP 3333. (`wsgi_apps.py`, and the frameworks, are under it in test_wsgi_apps.py and test_frameworks.py.)"""

from typing import Any

import pytest

from .harness import Connection, Fleet
from .harness.fleet import APPS

REQUESTS: dict[str, list[tuple[str, str, Any, int]]] = {
    # Method, target, body (a list: chunked), status.
    "hello": [("GET", "/", None, 200), ("HEAD", "/", None, 200), ("OPTIONS", "*", None, 200)],
    "cgi": [("GET", "/a%20b?c", None, 200), ("OPTIONS", "*", None, 200), ("POST", "/", b"x", 200)],
    "echo": [
        ("GET", "/", None, 200),
        ("POST", "/", bytes(200_000), 200),
        ("POST", "/", [b"a", b"b"], 200),
        ("HEAD", "/missing", None, 404),
    ],
    "nonce": [
        ("GET", "/?n=1", None, 200),
        ("POST", "/?n=2&late=10", [b"a", b"b"], 200),
        ("GET", "/?n=3&size=100000&piece=7000", None, 200),
        ("HEAD", "/?n=4&size=100", None, 200),
    ],
    "bulk": [("GET", "/?size=1000000", None, 200), ("POST", "/", bytes(1_000_000), 200)],
}


@pytest.mark.parametrize("buffered", ["true", "false"])
def test_an_app_of_ours_keeps_to_the_rules_and_is_kept_to(fleet: Fleet, buffered: str) -> None:
    for inner in REQUESTS:
        env = [f"INNER={inner}", f"NONCE_LOG={fleet.nonce_log(inner)}"]
        fleet.vassal(inner, module="validated", pythonpath=APPS, env=env, request_buffering=buffered)
    fleet.start()
    for inner, requests in REQUESTS.items():
        with Connection(fleet.http_port) as client:
            for method, target, body, status in requests:
                answer = client.request(f"{inner}.localhost", target, method, body)
                assert answer.status == status, fleet.log()[-3000:]
    assert "AssertionError" not in fleet.log()
