"""A Flask and a Django app as they come from PyPI: sessions, uploads, streaming."""

import hashlib
import json
import os

import pytest

from .harness import Connection, Fleet, fetch
from .harness.fleet import APPS

FRAMEWORKS = {
    "flask": {"module": "flask_shop:app"},
    "django": {"module": "django_shop"},
}


@pytest.fixture(params=FRAMEWORKS)
def host(request: pytest.FixtureRequest, fleet: Fleet) -> tuple[Fleet, str]:
    fleet.vassal("shop", pythonpath=APPS, processes=2, **FRAMEWORKS[request.param])
    fleet.start()
    return fleet, "shop.localhost"


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
