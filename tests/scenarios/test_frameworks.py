"""A Flask, a Django and a Werkzeug app as they come from PyPI: sessions, uploads, files, streaming, a client
that goes."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import Connection, Fleet, fetch, wait_for
from .harness.fleet import APPS
from .test_large_bodies import Growth

FRAMEWORKS = {
    "flask": {"module": "flask_shop:app"},
    "django": {"module": "django_shop"},
    "werkzeug": {"module": "werkzeug_shop"},
    # The same under wsgiref.validate.
    "flask-validated": {"module": "validated", "env": "INNER=flask_shop:app"},
    "django-validated": {"module": "validated", "env": "INNER=django_shop"},
    "werkzeug-validated": {"module": "validated", "env": "INNER=werkzeug_shop"},
}


@pytest.fixture(params=FRAMEWORKS)
def host(request: pytest.FixtureRequest, fleet: Fleet) -> Iterator[tuple[Fleet, str]]:
    fleet.vassal("shop", pythonpath=APPS, processes=2, **FRAMEWORKS[request.param])
    fleet.start()
    yield fleet, "shop.localhost"
    assert "AssertionError" not in fleet.log()


def test_a_session_is_kept_over_two_workers(host: tuple[Fleet, str]) -> None:
    fleet, name = host
    cookie = ""
    for visit in range(1, 9):
        answer = fetch(fleet.http_port, name, "/visits", fields={"Cookie": cookie} if cookie else {})
        assert json.loads(answer.body) == {"visits": visit}
        cookie = answer.cookies[0].split(";")[0]


def test_an_upload_arrives_as_it_was(host: tuple[Fleet, str]) -> None:
    fleet, name = host
    for size in (0, 1, 70_000, 5_000_000):
        upload(fleet, name, size, chunked=False)


def test_a_chunked_upload_arrives_as_it_was(host: tuple[Fleet, str]) -> None:
    """In Django too, which reads no body without a Content-Length: request-buffering knows it by the end."""
    fleet, name = host
    for size in (0, 1, 70_000, 5_000_000):
        upload(fleet, name, size, chunked=True)


def test_a_chunked_upload_that_is_streamed(fleet: Fleet) -> None:
    """Flask alone, by wsgi.input_terminated."""
    fleet.vassal("shop", pythonpath=APPS, request_buffering="false", **FRAMEWORKS["flask"])
    fleet.start()
    for size in (0, 1, 70_000, 5_000_000):
        upload(fleet, "shop.localhost", size, chunked=True)


def upload(fleet: Fleet, name: str, size: int, chunked: bool) -> None:
    content = os.urandom(size)
    mark = b"----form"
    body = (
        b'--%b\r\nContent-Disposition: form-data; name="note"\r\n\r\nhow?\r\n'
        b'--%b\r\nContent-Disposition: form-data; name="file"; filename="f.bin"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n%b\r\n--%b--\r\n"
    ) % (mark, mark, content, mark)
    if chunked:
        pieces: object = [body[at : at + 30_000] for at in range(0, len(body), 30_000)]
    else:
        pieces = body
    answer = fetch(
        fleet.http_port,
        name,
        "/upload",
        "POST",
        pieces,  # type: ignore[arg-type]
        {"Content-Type": f"multipart/form-data; boundary={mark.decode()}"},
    )
    assert answer.status == 200, answer.body
    digest = hashlib.sha256(content).hexdigest()
    assert json.loads(answer.body) == {"name": "f.bin", "sha256": digest, "note": "how?"}


def test_a_streamed_answer_is_whole_and_the_connection_is_kept(host: tuple[Fleet, str]) -> None:
    fleet, name = host
    expected = "".join(f"{n}\n" for n in range(5000)).encode()
    with Connection(fleet.http_port) as connection:
        for _ in range(3):
            answer = connection.request(name, "/stream")
            assert answer.fields["transfer-encoding"] == "chunked"
            assert answer.body == expected


LARGE = 200_000_000
GROWTH = 64 * 1024 * 1024


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["flask", "django", "werkzeug"])
def test_an_upload_of_200_mb_is_in_nobodys_memory(fleet: Fleet, framework: str) -> None:
    fleet.vassal("shop", pythonpath=APPS, env=f"TMPDIR={fleet.root}", **FRAMEWORKS[framework])
    fleet.start()
    upload(fleet, "shop.localhost", 70_000, chunked=False)
    mark, piece = b"----form", bytes(1_000_000)
    start = (
        b'--%b\r\nContent-Disposition: form-data; name="file"; filename="f.bin"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n"
    ) % mark
    end = b"\r\n--%b--\r\n" % mark
    head = (
        f"POST /size HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: {len(start) + LARGE + len(end)}\r\n"
        f"Content-Type: multipart/form-data; boundary={mark.decode()}\r\n\r\n"
    )
    with (
        Growth([fleet.pid("router"), fleet.pid("worker", "shop")]) as growth,
        Connection(fleet.http_port, 60) as client,
    ):
        client.send(head.encode() + start)
        for _ in range(LARGE // len(piece)):
            client.send(piece)
        client.send(end)
        answer = client.read_response()
    assert answer.status == 200, fleet.log()[-3000:]
    assert json.loads(answer.body) == {"size": LARGE}
    assert growth.most <= GROWTH


@pytest.fixture
def shelf(host: tuple[Fleet, str]) -> tuple[Fleet, str, Path]:
    """The shop, and a file that it may send."""
    fleet, name = host
    path = fleet.root / "file.txt"
    path.write_bytes(bytes(range(256)) * 2000)
    return fleet, name, path


def test_a_file_is_sent_whole_and_not_again(shelf: tuple[Fleet, str, Path]) -> None:
    fleet, name, path = shelf
    with Connection(fleet.http_port) as client:
        whole = client.request(name, f"/file?path={path}")
        assert (whole.status, whole.body) == (200, path.read_bytes())
        assert whole.fields["content-length"] == str(path.stat().st_size)
        head = client.request(name, f"/file?path={path}", "HEAD")
        assert (head.status, head.body) == (200, b"")
        again = client.request(name, f"/file?path={path}", fields={"If-None-Match": whole.fields["etag"]})
        assert (again.status, again.body) == (304, b"")
        assert client.request(name, f"/file?path={path}").body == path.read_bytes()


def test_a_streamed_answer_arrives_as_it_is_made(shelf: tuple[Fleet, str, Path]) -> None:
    fleet, name, path = shelf
    go = path.with_name("go")
    with Connection(fleet.http_port) as client:
        client.send(f"GET /slowly?path={go} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
        assert client.read_head()[0] == 200
        got = b""
        while b"first" not in got:
            got += client.read_some()
        assert b"second" not in got
        go.touch()
        while not got.endswith(b"0\r\n\r\n"):
            got += client.read_some()
    assert b"second" in got


def test_a_client_that_goes_ends_the_generator_and_not_the_worker(shelf: tuple[Fleet, str, Path]) -> None:
    fleet, name, path = shelf
    workers = {fleet.pid("worker", "shop", seat) for seat in range(2)}
    for round in range(3):
        closed = path.with_name(f"closed{round}")
        with Connection(fleet.http_port) as client:
            client.send(f"GET /endless?path={closed} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            assert client.read_head()[0] == 200
            client.read_some()
            client.reset()
        wait_for(closed.exists, 10)
    assert fetch(fleet.http_port, name, "/visits").status == 200
    assert {fleet.pid("worker", "shop", seat) for seat in range(2)} == workers
