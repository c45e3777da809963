"""A worker as a gateway sees it: what it says on the leash, what it needs to load an app, how it ends."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from emperor.protocol import records, scoreboard
from tests.worker.peer import LAUNCH, TIMEOUT_S, Stage, open_stage

ECHO_APP = """
    import json, os, sys

    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(eval(environ["QUERY_STRING"])).encode()]
"""


def evaluate(stage: Stage, router, expression: str):  # type: ignore[no-untyped-def]
    import json

    return json.loads(router.reply(router.request({"QUERY_STRING": expression})).body)


# What a worker is made of.

NOT_IN_A_WORKER = {
    "asyncio",
    "click",
    "concurrent.futures",
    "dataclasses",
    "email",
    "emperor.cli",
    "emperor.control",
    "emperor.config.options",
    "emperor.router",
    "emperor.stats",
    "emperor.supervisor",
    "h11",
    "http",
    "inspect",
    "logging",
    "multiprocessing",
    "psutil",
    "rich",
    "ssl",
    "tomllib",
    "unittest",
    "uvloop",
    "vassals.gateway",
    "vassals.worker.greenlets",
    "vassals.worker.shared",
    "vassals.worker.threads",
    "watchdog",
    "zmq",
}


def test_a_worker_imports_little(stage: Stage) -> None:
    """Its memory is multiplied by every vassal on the machine."""
    router, _worker = stage.serving(ECHO_APP)
    loaded = set(evaluate(stage, router, "sorted(sys.modules)"))
    assert "vassals.worker.link" in loaded
    assert not loaded & NOT_IN_A_WORKER
    # Of the configuration a worker may know the app's spec, which imports nothing.
    assert {name for name in loaded if name.startswith("emperor.config")} <= {
        "emperor.config",
        "emperor.config.spec",
    }


def test_an_apps_children_inherit_none_of_the_workers_descriptors(stage: Stage) -> None:
    router, _worker = stage.serving(
        """
        import json, os, subprocess

        def application(environ, start_response):
            out = subprocess.run(["/bin/ls", "/proc/self/fd"], stdout=subprocess.PIPE, close_fds=False).stdout
            start_response("200 OK", [])
            return [out]
        """
    )
    # Its own 0, 1, 2 and the directory that ls reads.
    assert router.get().body.split() == [b"0", b"1", b"2", b"3"]


def test_threads_of_the_app_that_keep_a_worker_which_has_left_are_named(stage: Stage) -> None:
    router, worker = stage.serving(
        """
        import pathlib, threading, time
        from concurrent.futures import ThreadPoolExecutor

        executor = ThreadPoolExecutor()
        executor.submit(int).result()

        def pump():
            while not pathlib.Path(__file__).with_name("gate").exists():
                time.sleep(0.01)

        threading.Thread(target=pump, name="pump").start()

        def application(environ, start_response):
            start_response("200 OK", [])
            return [b"ok"]
        """
    )
    worker.order("drain")
    router.expect(records.BYE)
    router.send(records.pack(records.BYE_ACK, 0, records.NO_WORD, 0, b""))
    worker.wait_log("waits for threads of the app (pump)")
    (stage.directory / "gate").write_text("")
    assert worker.exit_code() == 0


# The surroundings.


def test_chdir_is_the_first_of_the_path_and_env_is_set(stage: Stage) -> None:
    extra = stage.directory / "extra"
    extra.mkdir()
    (extra / "found.py").write_text("here = 1")
    router, _worker = stage.serving(
        "import found\n" + ECHO_APP.replace("\n    ", "\n"),
        pythonpath=[str(extra)],
        env=[["COLOUR", "grün"], ["TZ", "Asia/Tokyo"]],
    )
    directory = str(stage.directory)
    assert evaluate(stage, router, "[os.getcwd(), sys.path[:2]]") == [directory, [directory, str(extra)]]
    # Where the worker was started from is no part of it.
    assert str(LAUNCH.parent) not in evaluate(stage, router, "sys.path")
    assert evaluate(stage, router, "os.environ['COLOUR']") == "grün"
    assert evaluate(stage, router, "__import__('time').tzname[0]") == "JST"
    assert evaluate(stage, router, "sys.argv") == ["blog"]


def test_without_chdir_the_directory_is_that_of_the_file(stage: Stage) -> None:
    router, _worker = stage.serving(ECHO_APP, chdir=None)
    assert evaluate(stage, router, "os.getcwd()") == str(stage.directory)


def test_a_wsgi_file_finds_what_lies_beside_it(stage: Stage) -> None:
    site = stage.directory / "site"
    site.mkdir()
    (site / "beside.py").write_text("text = b'beside'")
    (site / "main.wsgi").write_text(
        "import beside\ndef app(e, s):\n    s('200 OK', [])\n    return [beside.text]\n"
    )
    router, _worker = stage.serving("", module=None, wsgi_file=str(site / "main.wsgi"))
    assert router.get().body == b"beside"


def make_virtualenv(path: Path, *, system: bool = False) -> Path:
    subprocess.run(
        [
            sys.executable,
            "-m",
            "venv",
            "--without-pip",
            *(["--system-site-packages"] if system else []),
            str(path),
        ],
        check=True,
    )
    packages = path / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    (packages / "only_here.py").write_text("where = 'venv'")
    linked = path / "linked"
    linked.mkdir()
    (linked / "by_pth.py").write_text("")
    (packages / "more.pth").write_text(f"{linked}\n")
    (packages / "sitecustomize.py").write_text("import os; os.environ['CUSTOMIZED'] = 'yes'")
    return packages


def test_a_virtualenv_is_entered_and_the_emperors_packages_are_left(stage: Stage) -> None:
    packages = make_virtualenv(stage.directory / "venv")
    router, _worker = stage.serving(
        "import only_here, by_pth\n" + ECHO_APP.replace("\n    ", "\n"),
        virtualenv=str(stage.directory / "venv"),
    )
    venv = str(stage.directory / "venv")
    path = evaluate(stage, router, "sys.path")
    assert str(packages) in path
    ours = sysconfig.get_path("purelib")
    assert ours not in path
    assert evaluate(stage, router, "[sys.prefix, sys.executable]") == [venv, f"{venv}/bin/python"]
    # A distribution's own sitecustomize stands in front of a virtualenv's: what its own interpreter runs is run here.
    printed = subprocess.run(
        [f"{venv}/bin/python", "-c", "import os; print(os.environ.get('CUSTOMIZED'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    seen = evaluate(stage, router, "[os.environ['VIRTUAL_ENV'], os.environ.get('CUSTOMIZED')]")
    assert seen == [venv, {"None": None}.get(printed, printed)]
    # Flask is installed where this test runs, and nowhere that the worker looks.
    assert evaluate(stage, router, "__import__('importlib.util').util.find_spec('flask') is None") is True
    child = (
        "__import__('subprocess').run([sys.executable, '-c', 'import only_here; print(only_here.where)'], "
    )
    child += "stdout=-1).stdout.decode()"
    assert evaluate(stage, router, child) == "venv\n"


def test_a_virtualenv_that_shares_system_packages_keeps_them_behind_its_own(stage: Stage) -> None:
    packages = make_virtualenv(stage.directory / "venv", system=True)
    router, _worker = stage.serving(ECHO_APP, virtualenv=str(stage.directory / "venv"))
    path = evaluate(stage, router, "sys.path")
    library = sysconfig.get_path("stdlib")
    assert path.index(library) < path.index(str(packages))
    system = os.path.join(library, "site-packages")
    if os.path.isdir(system):
        assert path.index(str(packages)) < path.index(system)


# Failing to load.


@pytest.mark.parametrize(
    ("source", "options", "reason"),
    [
        ("import flaks", {}, "No module named 'flaks'"),
        ("raise SystemExit(5)", {}, "sys.exit(5)"),
        ("", {}, "neither application nor app"),
        ("", {"module": None, "wsgi_file": "/nowhere/app.py"}, "there is no file /nowhere/app.py"),
        ("", {"chdir": "/nowhere"}, "chdir /nowhere: No such file or directory"),
        ("", {"virtualenv": "/nowhere"}, "virtualenv /nowhere is none of python3"),
    ],
)
def test_an_app_that_cannot_be_loaded(
    stage: Stage, source: str, options: dict[str, str | None], reason: str
) -> None:
    worker = stage.worker(source, **options)
    told = worker.told("failed")
    assert reason in told["reason"]
    assert worker.exit_code() == 70
    assert f"the app cannot be loaded: {told['reason']}" in worker.log()


def test_the_traceback_goes_over_the_leash(stage: Stage) -> None:
    told = stage.worker("def f():\n    1 / 0\nf()\n").told("failed")
    assert told["reason"] == f"ZeroDivisionError: division by zero ({stage.directory}/blog.py:2)"
    assert 'blog.py", line 3' in told["traceback"]


def test_without_need_app_the_worker_serves_500(stage: Stage) -> None:
    router, worker = stage.serving("import flaks", need_app=False)
    reply = router.get()
    assert (reply.status, reply.body) == ("500 Internal Server Error", b"This vassal has no app.\n")
    assert "No module named 'flaks'" in worker.log()


def test_a_page_of_another_shape_is_unusable(stage: Stage) -> None:
    worker = stage.worker(ECHO_APP, deck=999)
    assert worker.exit_code() == 71
    assert "the worker cannot serve: the page has" in worker.log()


def test_sigterm_while_importing_ends_it_at_once(stage: Stage) -> None:
    worker = stage.worker("open('importing', 'w').close()\nimport time\ntime.sleep(60)\n")
    from tests.scenarios.harness.waiting import wait_for

    wait_for((stage.directory / "importing").exists, TIMEOUT_S)
    worker.process.terminate()
    assert worker.exit_code() == -15


# Running and ending.


def test_system_exit_answers_and_leaves_by_draining(stage: Stage) -> None:
    router, worker = stage.serving("import sys\ndef app(environ, start_response): sys.exit(3)\n")
    first, record1 = router.offer(word=0)
    second, record2 = router.offer(word=1)
    router.send(record1, record2)
    assert router.reply(first).status == "500 Internal Server Error"
    assert router.expect(records.RETURN)[3] == second
    router.expect(records.BYE)
    router.send(records.pack(records.BYE_ACK, 0, records.NO_WORD, 0, b""))
    assert worker.exit_code() == 0
    assert "SystemExit: 3" in worker.log()


def test_an_error_is_logged_and_the_worker_goes_on(stage: Stage) -> None:
    router, worker = stage.serving(
        """
        def app(environ, start_response):
            print("to stdout")
            environ["wsgi.errors"].write("to wsgi.errors\\n")
            start_response("200 OK", [])
            return [1 // (environ["PATH_INFO"] == "/ok") and b"ok"]
        """
    )
    assert router.get("/bad").status == "500 Internal Server Error"
    assert router.get("/ok").body == b"ok"
    log = worker.log()
    assert "ZeroDivisionError" in log
    assert "GET /bad: Traceback" in log
    assert log.count("to stdout\n") == log.count("to wsgi.errors\n") == 2


def test_a_log_that_nobody_reads_holds_up_no_request(stage: Stage) -> None:
    router, _worker = stage.serving(
        """
        import sys

        def app(environ, start_response):
            for _ in range(300):
                print("x" * 1000)
                print("y" * 1000, file=sys.stderr)
            start_response("200 OK", [])
            return [b"ok"]
        """
    )
    assert [router.get().body for _ in range(3)] == [b"ok"] * 3


def test_what_the_app_registered_for_the_end_is_run(stage: Stage) -> None:
    _router, worker = stage.serving(
        """
        import atexit, threading, time
        atexit.register(print, "at exit")

        def late():
            time.sleep(0.2)
            print("thread done")

        def app(environ, start_response): pass
        threading.Thread(target=late).start()
        """
    )
    worker.order("drain")
    assert worker.exit_code() == 0
    assert worker.log() == "thread done\nat exit\n"


def test_leaves_no_descriptor_or_file_behind() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with open_stage() as stage:
        router, worker = stage.serving(ECHO_APP)
        router.get("/")
        worker.order("drain")
        worker.exit_code()
        directory = stage.directory
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert not directory.exists()


def test_the_page_shows_the_start_of_what_runs(stage: Stage) -> None:
    import time

    router, _worker = stage.serving(
        "import time\ndef app(e, s):\n    time.sleep(0.3)\n    s('200 OK', [])\n    return []"
    )
    stream = router.request(word=0)
    stage.wait_running(stream)
    running, start_ns = stage.board.slot(0, 0)
    assert running == stream
    assert 0 <= time.monotonic_ns() - start_ns < 10**9
    _, _, _, _, payload = router.expect(records.RESPONSE)
    assert records.unpack_response(payload)[0] >= 300_000
    assert stage.word(0) == scoreboard.STATE_NAMES[scoreboard.FREE]


# Frameworks.

FLASK_APP = """
    import io
    from flask import Flask, request, session, Response

    app = Flask(__name__)
    app.secret_key = "x"

    @app.route("/count")
    def count():
        session["n"] = session.get("n", 0) + 1
        return str(session["n"])

    @app.route("/upload", methods=["POST"])
    def upload():
        return str(len(request.files["file"].read()))

    @app.route("/stream")
    def stream():
        return Response((f"{n}\\n" for n in range(5)), mimetype="text/plain")
"""

DJANGO_APP = """
    from django.conf import settings
    settings.configure(
        SECRET_KEY="x", ALLOWED_HOSTS=["*"], ROOT_URLCONF="blog",
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
        MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware",
                    "django.middleware.common.CommonMiddleware"],
    )
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpResponse, StreamingHttpResponse
    from django.urls import path

    def count(request):
        request.session["n"] = request.session.get("n", 0) + 1
        return HttpResponse(str(request.session["n"]))

    def upload(request):
        return HttpResponse(str(len(request.FILES["file"].read())))

    def stream(request):
        return StreamingHttpResponse(f"{n}\\n" for n in range(5))

    urlpatterns = [path("count", count), path("upload", upload), path("stream", stream)]
    application = get_wsgi_application()
"""


@pytest.mark.parametrize("source", [FLASK_APP, DJANGO_APP], ids=["flask", "django"])
def test_frameworks_sessions_uploads_and_streams(stage: Stage, source: str) -> None:
    router, worker = stage.serving(source)
    host = {"HTTP_HOST": "localhost"}

    def ask(path: str, **variables: str):  # type: ignore[no-untyped-def]
        reply = router.reply(router.request({**host, "PATH_INFO": path, "REQUEST_URI": path, **variables}))
        assert reply.status == "200 OK", worker.log()
        return reply

    first = ask("/count")
    assert first.body == b"1"
    cookie = first.header("Set-Cookie")
    assert cookie is not None
    assert ask("/count", HTTP_COOKIE=cookie.partition(";")[0]).body == b"2"
    assert ask("/stream").body == b"0\n1\n2\n3\n4\n"

    content = os.urandom(1 << 20)
    mark = b"a-boundary-that-random-bytes-do-not-hold"
    form = b'--%b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n%b\r\n--%b--\r\n' % (
        mark,
        content,
        mark,
    )
    variables = {
        **host,
        "PATH_INFO": "/upload",
        "REQUEST_METHOD": "POST",
        "CONTENT_TYPE": f"multipart/form-data; boundary={mark.decode()}",
        "CONTENT_LENGTH": str(len(form)),
    }
    stream = router.request(variables, form[:65536], fin=False)
    at, credit = 65536, 0
    while at < len(form):
        if credit == 0:
            credit = records.unpack_credit(router.expect(records.CREDIT)[4])
        size = min(credit, 65536, len(form) - at)
        fin = records.FIN if at + size == len(form) else 0
        router.send(records.pack(records.DATA, fin, records.NO_WORD, stream, form[at : at + size]))
        at, credit = at + size, credit - size
    assert router.reply(stream).body == b"1048576"
