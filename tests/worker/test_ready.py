"""`ready-path`: a worker asks its own app, as clients will, before it counts as loaded."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.peer import TIMEOUT_S, Stage, open_stage, wait_for

SAYS = """
    import os

    def application(environ, start_response):
        status, *fields = os.environ["STATUS"].split("|")
        start_response(status, [tuple(each.split("=", 1)) for each in fields])
        return [os.environ.get("BODY", "").encode()]
"""

ENGINES = {"alone": {}, "threads": {}, "gevent": {"gevent": True}}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[tuple[Stage, dict[str, object]]]:
    with open_stage(1 if request.param == "alone" else 3) as stage:
        yield stage, ENGINES[request.param]


def test_2xx_is_ready_before_a_router_is_met(engine: tuple[Stage, dict[str, object]]) -> None:
    stage, options = engine
    worker = stage.worker(SAYS, environment={"STATUS": "204 No Content"}, ready_path="/healthz", **options)
    worker.told("loaded")


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        ("500 Internal Server Error", "no database\nat all", "500 Internal Server Error: no database"),
        ("404 Not Found", "", "404 Not Found"),
        ("301 Moved|Location=https://blog/healthz", "", "301 Moved: to https://blog/healthz"),
        ("400 Bad Request", "<h1>ALLOWED_HOSTS</h1>", "400 Bad Request: <h1>ALLOWED_HOSTS</h1>"),
        ("200 OK|Content-Length=9", "short", "the app sent 5 bytes of body, but declared"),
    ],
)
def test_any_other_answer_fails_the_start_and_is_told(
    stage: Stage, status: str, body: str, said: str
) -> None:
    worker = stage.worker(SAYS, environment={"STATUS": status, "BODY": body}, ready_path="/healthz?full")
    assert worker.told("failed")["reason"].startswith(f"ready-path /healthz?full: {said}")
    assert worker.exit_code() == 70


def test_an_app_that_raises_or_exits_has_failed(engine: tuple[Stage, dict[str, object]]) -> None:
    stage, options = engine
    worker = stage.worker("def application(e, s):\n    1 / 0\n", ready_path="/healthz", **options)
    assert "500 Internal Server Error" in worker.told("failed")["reason"]
    assert "ZeroDivisionError" in worker.log()
    leaver = stage.worker(
        "def application(e, s):\n    raise SystemExit(3)\n", ready_path="/healthz", **options
    )
    assert "SystemExit(3)" in leaver.told("failed")["reason"]


def test_503_is_asked_again_until_it_is_something_else(engine: tuple[Stage, dict[str, object]]) -> None:
    stage, options = engine
    flag = stage.directory / "warm"
    source = f"""
        import os

        def application(environ, start_response):
            warm = os.path.exists({str(flag)!r})
            start_response("200 OK" if warm else "503 Service Unavailable", [])
            return [b"" if warm else b"filling the cache"]
    """
    worker = stage.worker(source, ready_path="/healthz", **options)
    said = "ready-path /healthz: 503 Service Unavailable: filling the cache"
    assert worker.told("waiting")["reason"] == said
    flag.touch()
    worker.told("loaded")


def test_a_worker_whose_gateway_goes_while_it_waits_leaves(stage: Stage) -> None:
    worker = stage.worker(SAYS, environment={"STATUS": "503 Not Now"}, ready_path="/healthz")
    worker.told("waiting")
    worker.leash.close()
    assert worker.exit_code() == 0


def test_the_app_sees_an_ordinary_request(stage: Stage) -> None:
    seen = stage.directory / "seen"
    source = f"""
        def application(environ, start_response):
            names = ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "HTTP_HOST", "REMOTE_ADDR", "wsgi.url_scheme")
            with open({str(seen)!r}, "w") as file:
                file.write(repr([environ[name] for name in names] + [environ["wsgi.input"].read()]))
            start_response("200 OK", [])
            return []
    """
    stage.worker(source, ready_path="/a%20b%2?x=1").told("loaded")
    assert seen.read_text() == repr(["GET", "/a b%2", "x=1", "blog.example.com", "127.0.0.1", "http", b""])


def test_an_endless_answer_is_cut_off(stage: Stage) -> None:
    source = """
        def application(environ, start_response):
            start_response("200 OK", [])
            while True:
                yield b"x" * 1000
    """
    stage.worker(source, ready_path="/healthz").told("loaded")


def test_a_child_that_comes_back_from_the_app_says_nothing(stage: Stage, tmp_path: Path) -> None:
    mark = tmp_path / "child"
    source = f"""
        import os

        def application(environ, start_response):
            start_response("200 OK", [])
            if os.fork() == 0:
                open({str(mark)!r}, "w").write(str(os.getpid()))
            return []
    """
    worker = stage.worker(source, ready_path="/healthz")
    worker.told("loaded")
    child = wait_for(lambda: mark.exists() and mark.read_text(), TIMEOUT_S, worker.log)
    wait_for(lambda: _has_ended(child), TIMEOUT_S, lambda: "the child is still there")
    worker.leash.settimeout(0.2)
    with pytest.raises(TimeoutError):
        worker.leash.recv(1)


def _has_ended(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True
