"""Starlette, Quart, Litestar and Django with Channels as they come from PyPI, on both event loops: what their users rely on,
seen from outside. FastAPI and Django without Channels are in test_asgi.py."""

import hashlib
import json
import os
from collections.abc import Iterator

import pytest

from .harness import Connection, Fleet, fetch, wait_for
from .harness.fleet import APPS
from .test_asgi import request

FRAMEWORKS = {
    "starlette": ("starlette", "starlette_app:app"),
    "starlette-wrapped": ("starlette", "starlette_app:wrapped"),
    "quart": ("quart", "quart_app:app"),
    "litestar": ("litestar", "litestar_app:app"),
    "channels": ("channels", "channels_app:application"),
}


@pytest.fixture(
    params=[
        *((name, "uvloop") for name in FRAMEWORKS),
        ("starlette", "asyncio"),
        ("quart", "asyncio"),
        ("channels", "asyncio"),
    ],
    ids="-".join,
)
def served(request: pytest.FixtureRequest, fleet: Fleet) -> Iterator[tuple[Fleet, str]]:
    name, loop = request.param
    package, app = FRAMEWORKS[name]
    pytest.importorskip(package)
    fleet.vassal("a", asgi=app, pythonpath=APPS, asgi_loop=loop)
    fleet.start()
    yield fleet, name
    log = fleet.log()
    for told in ("was never awaited", "never retrieved", "RuntimeWarning", "harakiri", "AsgiError"):
        assert told not in log, log[-3000:]


def seen(fleet: Fleet) -> list[str]:
    found: list[str] = json.loads(fleet.get("a", "/seen").body)
    return found


def test_an_upload_is_streamed_into_it(served: tuple[Fleet, str]) -> None:
    fleet, _ = served
    for size in (0, 1, 70_000, 5_000_000):
        content = os.urandom(size)
        pieces = [content[at : at + 30_000] for at in range(0, size, 30_000)]
        for body in (content, pieces):
            answer = fetch(fleet.http_port, "a.localhost", "/upload", "POST", body)  # type: ignore[arg-type]
            assert answer.status == 200, answer.body
            assert json.loads(answer.body) == [size, hashlib.sha256(content).hexdigest()]


def test_a_streamed_answer_is_whole_and_the_connection_is_kept(served: tuple[Fleet, str]) -> None:
    fleet, _ = served
    expected = "".join(f"{n}\n" for n in range(200)).encode()
    with Connection(fleet.http_port) as connection:
        for _ in range(3):
            answer = connection.request("a.localhost", "/stream")
            assert (answer.status, answer.body) == (200, expected)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_goes_ends_the_stream(served: tuple[Fleet, str], how: str) -> None:
    fleet, _ = served
    client = Connection(fleet.http_port, 20)
    client.send(request("/endless"))
    assert client.read_head()[0] == 200
    client.read_some()
    getattr(client, how)()
    wait_for(lambda: "the stream was closed" in seen(fleet), 10, fleet.log)


def test_an_error_is_500_and_the_worker_goes_on(served: tuple[Fleet, str]) -> None:
    fleet, name = served
    before = fleet.pid("worker", "a")
    for _ in range(3):
        assert fleet.get("a", "/fails").status == 500
    if name.startswith(("starlette", "quart")):
        # The others keep it to themselves unless they are told to log.
        wait_for(lambda: "on purpose" in fleet.log(), 5, fleet.log)
    assert fleet.get("a", "/seen").status == 200 and fleet.pid("worker", "a") == before


def test_views_that_are_not_asynchronous_run_in_threads(served: tuple[Fleet, str]) -> None:
    fleet, name = served
    if not name.startswith("starlette"):
        assert json.loads(fleet.get("a", "/thread").body) == {"main": False}
    if name in ("quart", "litestar"):
        assert seen(fleet)[0] == "started"


@pytest.fixture(params=["app", "wrapped"])
def starlette(request: pytest.FixtureRequest, fleet: Fleet) -> Iterator[tuple[Fleet, str]]:
    pytest.importorskip("starlette")
    fleet.vassal("a", asgi=f"starlette_app:{request.param}", pythonpath=APPS)
    fleet.start()
    yield fleet, request.param
    assert "never retrieved" not in fleet.log()


def test_the_state_of_starlettes_lifespan_is_shared_and_its_group_runs(starlette: tuple[Fleet, str]) -> None:
    fleet, name = starlette
    for visit in range(1, 4):
        answer = fetch(fleet.http_port, "a.localhost", "/visits", fields={"X-Number": str(visit)})
        number = str(visit) if name == "wrapped" else "none"
        assert json.loads(answer.body) == {"visits": visit, "number": number}
    if name == "wrapped":
        # A context of its own for each request: nothing of the last one is left.
        answer = fleet.get("a", "/visits")
        assert json.loads(answer.body)["number"] == "none" and answer.fields["x-named"] == "none"


def test_anyios_groups_deadlines_and_threads(starlette: tuple[Fleet, str]) -> None:
    fleet, name = starlette
    answer = fetch(fleet.http_port, "a.localhost", "/together", fields={"X-Number": "7"})
    assert json.loads(answer.body) == [1, 2, 3, True, "7" if name == "wrapped" else "none"]


def test_a_form_with_a_file(starlette: tuple[Fleet, str]) -> None:
    pytest.importorskip("python_multipart")
    fleet, _ = starlette
    content = os.urandom(2_000_000)
    body = (
        b'--form\r\nContent-Disposition: form-data; name="note"\r\n\r\nhow?\r\n'
        b'--form\r\nContent-Disposition: form-data; name="file"; filename="f.bin"\r\n\r\n%b\r\n--form--\r\n'
    ) % content
    fields = {"Content-Type": "multipart/form-data; boundary=form"}
    answer = fetch(fleet.http_port, "a.localhost", "/form", "POST", body, fields)
    assert json.loads(answer.body) == {"note": "how?", "sha256": hashlib.sha256(content).hexdigest()}


def test_a_file_whole_in_ranges_and_not_again(starlette: tuple[Fleet, str]) -> None:
    fleet, _ = starlette
    content = (APPS / "starlette_app.py").read_bytes()
    whole = fleet.get("a", "/file")
    assert whole.body == content and whole.fields["content-length"] == str(len(content))
    part = fetch(fleet.http_port, "a.localhost", "/file", fields={"Range": "bytes=10-19"})
    assert (part.status, part.body) == (206, content[10:20])
    assert fetch(fleet.http_port, "a.localhost", "/file", "HEAD").body == b""


def test_background_tasks_run_after_the_answer(starlette: tuple[Fleet, str]) -> None:
    fleet, _ = starlette
    assert fleet.get("a", "/background").body == b"now"
    wait_for(lambda: "background" in seen(fleet), 5)


def test_is_disconnected_and_client_disconnect(starlette: tuple[Fleet, str]) -> None:
    fleet, name = starlette
    if name == "app":
        # Behind a BaseHTTPMiddleware it never says so, under uvicorn either.
        client = Connection(fleet.http_port, 20)
        client.send(request("/still_there"))
        wait_for(lambda: fleet.status()["routers"][0]["apps"]["a"]["running"] == 1, 5)
        client.close()
        wait_for(lambda: "is_disconnected" in seen(fleet), 10)
    client = Connection(fleet.http_port, 20)
    client.send(request("/upload", "POST", "Content-Length: 1000000") + bytes(300_000))
    wait_for(lambda: fleet.status()["routers"][0]["apps"]["a"]["running"] == 1, 5)
    client.reset()
    wait_for(lambda: "gone in the middle of its body" in seen(fleet), 10)


def test_a_mount_has_its_own_root_path(starlette: tuple[Fleet, str]) -> None:
    fleet, name = starlette
    if name == "app":
        assert fleet.get("a", "/under/stream").body == fleet.get("a", "/stream").body
        assert fleet.get("a", "/under/none").status == 404
