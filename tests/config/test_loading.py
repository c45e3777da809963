import errno
import hashlib
import os
import pwd
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from emperor.config import AppSpec, ConfigError, VassalConfig, load_vassal
from emperor.config.balancing import Balancing
from emperor.config.loading import SIZE_LIMIT
from emperor.config.options import OPTIONS
from emperor.config.problems import Source
from emperor.config.spec import EngineSpec

Load = Callable[..., VassalConfig]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Writes a file into a directory of vassals, beside which there is an app, and loads it."""
    vassals = tmp_path / "vassals"
    vassals.mkdir()
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "wsgi.py").write_text("")
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "pyvenv.cfg").write_text("")

    def load(content: str | bytes, name: str = "blog.ini", **environ: str) -> VassalConfig:
        path = vassals / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return load_vassal(path, directory=vassals, environ=environ)

    return load


def problems(load: Load, content: str | bytes, name: str = "blog.ini", **environ: str) -> list[str]:
    """What a file is refused for, without the directory it is in."""
    with pytest.raises(ConfigError) as caught:
        load(content, name, **environ)
    lines = [str(problem) for problem in caught.value.problems]
    assert str(caught.value) == "\n".join(lines)
    return [line.replace(os.path.dirname(caught.value.problems[0].path) + "/", "") for line in lines]


def warnings(config: VassalConfig) -> list[str]:
    return [str(warning).replace(os.path.dirname(config.path) + "/", "") for warning in config.warnings]


def test_the_least_there_can_be(load: Load, tmp_path: Path) -> None:
    content = "[vassal]\nmodule = blog.wsgi:app\n"
    config = load(content)
    assert config == VassalConfig(
        name="blog",
        path=str(tmp_path / "vassals" / "blog.ini"),
        digest=hashlib.sha256(content.encode()).hexdigest(),
        warnings=(),
        notes=(),
        processes=1,
        engine=EngineSpec(interface=""),
        app=AppSpec(module="blog.wsgi:app"),
        uid=None,
        gid=None,
        domains=("blog.localhost",),
        default=False,
        need_app=True,
        spawn="fork",
        queue=1024,
        queue_timeout_s=10.0,
        request_timeout_s=0.0,
        body_limit=0,
        request_buffering=True,
        post_buffering=256 << 10,
        response_buffer=1 << 20,
        start_timeout_s=60.0,
        stop_timeout_s=8.0,
        access=None,
        request_id=False,
        logto=None,
        log_max_bytes=0,
        log_backup=None,
        pidfile=None,
        options=config.options,
        sources=(Source(str(tmp_path / "vassals" / "blog.ini")),),
        balancing=Balancing(queue_target_s=5.0, slow_start_s=5.0, retries=True),
    )
    assert list(config.options) == [option.name for option in OPTIONS]


INI = """\
; everything there is
[uwsgi]
wsgi-file = ../app/wsgi.py
callable = make()
chdir = ../app
home = ../venv
pp = .
pythonpath = ..
env = A=1
env = B = two words
env = A=2
uid = {user}
gid = 0
workers = 4
domain = Blog.Example.com
domain = *.blog.example.com/api/
default
need-app = false
spawn = exec
queue = 10
queue-timeout = 500ms
limit-post = 10m
start-timeout = 2m
stop-timeout = 1.5
"""

TOML = """\
wsgi-file = "../app/wsgi.py"
callable = "make()"
chdir = "../app"
home = "../venv"
pythonpath = [".", ".."]
env = ["A=1", "B = two words", "A=2"]
uid = "{user}"
gid = 0
processes = 4
domain = ["Blog.Example.com", "*.blog.example.com/api/"]
default = true
need-app = false
spawn = "exec"
queue = 10
queue-timeout = "500ms"
body-limit = "10m"
start-timeout = "2m"
stop-timeout = 1.5
"""


@pytest.mark.parametrize(("content", "name"), [(INI, "blog.ini"), (TOML, "blog.toml")])
def test_everything_there_is(load: Load, tmp_path: Path, content: str, name: str) -> None:
    user = pwd.getpwuid(os.getuid())
    config = load(content.format(user=user.pw_name), name)
    assert config.app == AppSpec(
        wsgi_file=str(tmp_path / "app/wsgi.py"),
        callable="make()",
        chdir=str(tmp_path / "app"),
        virtualenv=str(tmp_path / "venv"),
        pythonpath=(str(tmp_path / "app"), str(tmp_path)),
        env=(("A", "1"), ("B", "two words"), ("A", "2")),
    )
    assert (config.uid, config.gid, config.processes) == (user.pw_uid, 0, 4)
    assert config.domains == ("blog.example.com", "*.blog.example.com/api", "blog.localhost")
    assert (config.default, config.need_app, config.spawn) == (True, False, "exec")
    assert (config.queue, config.queue_timeout_s, config.body_limit) == (10, 0.5, 10 << 20)
    assert (config.start_timeout_s, config.stop_timeout_s) == (120.0, 1.5)
    assert config.warnings == config.notes == ()
    assert config.options["uid"] == user.pw_uid
    assert config.options["domain"] == config.domains
    assert config.options["pythonpath"] == config.app.pythonpath


def test_every_problem_is_named_at_its_line(load: Load, tmp_path: Path) -> None:
    content = """\
[uwsgi]
module = blog/wsgi.py
proceses = 4
processes = true
chdir = /no/such/place
virtualenv = ../app
uid = no-such-user
domain = http://blog.example.com
env = LONELY
route = ^/admin basicauth:admin
include = common.ini
queue-timeout = 10x
vaccum = true
limit-as = 512
"""
    app = tmp_path / "app"
    assert problems(load, content) == [
        "blog.ini:2: module: 'blog/wsgi.py' does not name a module (a path belongs in wsgi-file)",
        "blog.ini:3: proceses: unknown key (did you mean 'processes'?)",
        "blog.ini:4: processes: 'true' is not a whole number",
        "blog.ini:5: chdir: there is no directory /no/such/place",
        f"blog.ini:6: virtualenv: {app} is no virtualenv: it has neither pyvenv.cfg nor bin/python",
        "blog.ini:7: uid: there is no user 'no-such-user'",
        "blog.ini:8: domain: 'http://blog.example.com' is a URL (leave out the scheme: write"
        " blog.example.com,"
        " *.example.com or example.com/path)",
        "blog.ini:9: env: 'LONELY' has no = (write NAME=value)",
        "blog.ini:10: route: not supported, and ignoring it would open a door (a routing rule"
        " may be an access rule;"
        " remove the line if the app is safe without it)",
        "blog.ini:11: include: common.ini is not there, or no longer",
        "blog.ini:12: queue-timeout: '10x' is not a duration (write 10s, 500ms, 2m, 1h or a"
        " number of seconds)",
        "blog.ini:13: vaccum: unknown key (did you mean uWSGI's 'vacuum'?)",
        "blog.ini:14: limit-as: not supported, and ignoring it would open a door (it limits what"
        " the app may take;"
        " remove the line if the app is safe without it)",
    ]


def test_every_problem_of_a_toml_file_is_named_at_its_line(load: Load) -> None:
    content = """\
module = "blog"
proceses = 4

processes = true
domain = [
  "a.com",
  "a.com:80",
  7,
]
queue = 1.5
default = 1
need-app = "maybe"
chdir = ["/"]
queue-timeout = 1979-05-27
env = {A = true}
master = true
chroot = "/srv"
"""
    assert problems(load, content, "blog.toml") == [
        "blog.toml:2: proceses: unknown key (did you mean 'processes'?)",
        "blog.toml:4: processes: true is not a whole number",
        "blog.toml:5: domain: 'a.com:80' names a port (routes go by host and path alone)",
        "blog.toml:5: domain: 7 is not text (put it in quotes)",
        "blog.toml:10: queue: 1.5 is not a whole number",
        "blog.toml:11: default: 1 is neither true nor false",
        "blog.toml:12: need-app: 'maybe' is neither true nor false",
        "blog.toml:13: chdir: a list is not text",
        "blog.toml:14: queue-timeout: 1979-05-27 is not a duration (write 10s, 500ms, 2m, 1h or"
        " a number of seconds)",
        "blog.toml:15: env: A is true, not text (put it in quotes)",
        "blog.toml:17: chroot: not supported, and ignoring it would open a door (it isolates the"
        " app from the system;"
        " remove the line if the app is safe without it)",
    ]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("processes = 4 ; four workers", "'4 ; four workers' is not a whole number|; four workers"),
        ("processes = 4 # four", "'4 # four' is not a whole number|# four"),
        ("module = app:app ; the app", "'app:app ; the app' does not name a module|; the app"),
        ("queue-timeout = 10s # s", "'10s # s' is not a duration|# s"),
        ("default = true ; yes", "'true ; yes' is neither true nor false|; yes"),
        ("domain = a.com ; x", "'a.com ; x' is more than one domain|; x"),
        ("chdir = /tmp ; x", "there is no directory /tmp ; x|; x"),
        ("spawn = exec # x", "'exec # x' is none of fork, exec|# x"),
        ("socket = /run/a.sock ; nginx", "ends in what looks like a comment|; nginx"),
        ("http = :8000 # x", "':8000 # x' has no port|# x"),
        ("https-socket = :8443,a.crt,a.key ; x", "ends in what looks like a comment|; x"),
        ("pidfile = /run/a.pid # x", "ends in what looks like a comment|# x"),
        ("logto = /log/a ; x", "ends in what looks like a comment|; x"),
        ("req-logger = file:/log/a ; x", "ends in what looks like a comment|; x"),
        ("log-backupname = a.old ; x", "ends in what looks like a comment|; x"),
    ],
)
def test_a_comment_after_a_value_is_named_as_the_mistake(load: Load, line: str, shown: str) -> None:
    reason, _, comment = shown.partition("|")
    key = line.split()[0]
    found = problems(load, f"[uwsgi]\nwsgi = app\n{line}\n")
    hint = f"(a comment stands on a line of its own; {comment!r} is part of the value here)"
    assert f"blog.ini:3: {key}: {reason} {hint}" in found


def test_what_looks_like_a_comment_after_a_text_is_a_warning(load: Load, tmp_path: Path) -> None:
    (tmp_path / "vassals" / "C #1").mkdir()
    text = "[uwsgi]\nmodule = a\nenv = DEBUG=0 ; off\nlog-format = %(uri) # uri\nchdir = C #1\nmaster = 1 ; yes\n"
    config = load(text)
    assert (config.app.env, config.app.chdir) == ((("DEBUG", "0 ; off"),), str(tmp_path / "vassals" / "C #1"))
    hint = "(a comment stands on a line of its own; {!r} is part of the value here)"
    assert warnings(config) == [
        f"blog.ini:3: env: ends in what looks like a comment {hint.format('; off')}",
        f"blog.ini:4: log-format: ends in what looks like a comment {hint.format('# uri')}",
    ]
    assert load('module = "a"\nlogto = "/tmp/a ; b"\nenv = {A = "1 # 2"}\n', "blog.toml").warnings == ()
    assert load("uwsgi:\n  module: a\n  env: 'A=1 # 2' # two\n", "blog.yml").warnings == ()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "blog.ini: is empty"),
        (b" \n\t\n", "blog.ini: is empty"),
        (b"[uwsgi]\nmodule = a\0b\n", "blog.ini:2: holds a NUL byte"),
        (b"[uwsgi]\n\nmodule = gr\xfcn\n", "blog.ini:3: is not UTF-8"),
        (b"[uwsgi]\n" + b";" * SIZE_LIMIT, "blog.ini: has more than 1048576 bytes"),
        (
            b"module = app\n",
            "blog.ini:1: module: stands before the first section (put [uwsgi] or [vassal] above it)",
        ),
        (b"; nothing\n", "blog.ini: has no section [uwsgi] or [vassal]"),
        (b"[blog]\nmodule = app\n", "blog.ini: has no section [uwsgi] or [vassal]"),
        (
            b"[uwsgi]\nprocesses = 2\n",
            "blog.ini: names no app (set module = pkg.mod:app or wsgi-file = app.py)",
        ),
        (b"[uwsgi]\n", "blog.ini: names no app (set module = pkg.mod:app or wsgi-file = app.py)"),
        (b"[uwsgi]\nmodule\n", "blog.ini:2: module: needs a value"),
        (b"[uwsgi]\nmodule =\n", "blog.ini:2: module: needs a value"),
    ],
)
def test_files_that_hold_no_vassal(load: Load, content: bytes, problem: str) -> None:
    assert problem in problems(load, content)


def test_a_file_of_the_largest_size_is_read(load: Load) -> None:
    content = b"[uwsgi]\nmodule = app\n;"
    assert load(content + b"x" * (SIZE_LIMIT - len(content))).app.module == "app"


@pytest.mark.parametrize("content", ["# nothing\n", "[vassal]\n", "[vassal]\nprocesses = 2\n"])
def test_toml_files_that_name_no_app(load: Load, content: str) -> None:
    assert problems(load, content, "blog.toml") == [
        "blog.toml: names no app (set module = pkg.mod:app or wsgi-file = app.py)"
    ]


def test_a_syntax_error_is_not_followed_by_complaints(load: Load) -> None:
    assert problems(load, 'module = "app\n', "blog.toml") == [
        "blog.toml:1: is not TOML: illegal character '\\n' at column 14"
    ]


def test_a_byte_order_mark_and_dos_line_ends_do_no_harm(load: Load) -> None:
    for name in ("blog.ini", "blog.toml"):
        content = '\ufeff[vassal]\r\nmodule = "a"\r\nprocesses = 2\r\n'
        if name.endswith("ini"):
            content = content.replace('"', "")
        config = load(content, name)
        assert (config.app.module, config.processes) == ("a", 2)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "directory.ini").mkdir()
    os.mkfifo(tmp_path / "fifo.ini")
    (tmp_path / "loop.ini").symlink_to("loop.ini")
    (tmp_path / "dangling.ini").symlink_to("nowhere")
    (tmp_path / "zero.ini").symlink_to("/dev/zero")
    (tmp_path / "blog.conf").write_text("module: app")
    (tmp_path / "my blog.ini").write_text("[uwsgi]\nmodule = app\n")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.ini"))
    for name, reason in (
        ("gone.ini", "is not there, or no longer"),
        ("dangling.ini", "is not there, or no longer"),
        ("loop.ini", "cannot be read: Too many levels of symbolic links"),
        ("directory.ini", "is not a regular file"),
        ("fifo.ini", "is not a regular file"),
        ("zero.ini", "is not a regular file"),
        ("socket.ini", "cannot be read: No such device or address"),
        (
            "blog.conf",
            "is of no known format (its name ends in .ini or .toml or .yaml or .yml or .json or .js)",
        ),
        (
            "my blog.ini",
            "'my blog' cannot be the name of a vassal: letters, digits, '.', '_' and '-' only"
            " (rename the file)",
        ),
    ):
        with pytest.raises(ConfigError) as caught:
            load_vassal(tmp_path / name, directory=tmp_path)
        assert str(caught.value) == f"{tmp_path / name}: {reason}"


def test_a_file_without_permission(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    load("[uwsgi]\nmodule = app\n")
    monkeypatch.setattr(os, "open", refuse)  # root, as which this may run, reads everything
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        load_vassal(tmp_path / "vassals" / "blog.ini", directory=tmp_path / "vassals")


def test_a_refused_file_is_closed_again(tmp_path: Path) -> None:
    (tmp_path / "directory.ini").mkdir()
    (tmp_path / "empty.ini").write_text("")
    before = os.listdir("/proc/self/fd")
    for name in ("directory.ini", "empty.ini"):
        with pytest.raises(ConfigError):
            load_vassal(tmp_path / name, directory=tmp_path)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_an_app_named_twice(load: Load) -> None:
    assert problems(load, "[uwsgi]\nmodule = app\nfile = ../app/wsgi.py\n") == [
        "blog.ini:3: wsgi-file: the app is named twice, by module and by wsgi-file (keep one)"
    ]


def test_the_app_is_looked_for_in_chdir_as_uwsgi_does(load: Load, tmp_path: Path) -> None:
    (tmp_path / "app" / "lib").mkdir()
    config = load("[uwsgi]\nwsgi-file = wsgi.py\npythonpath = lib\nhome = ../venv\nchdir = ../app\n")
    assert config.app.wsgi_file == str(tmp_path / "app" / "wsgi.py")
    assert config.app.pythonpath == (str(tmp_path / "app" / "lib"),)
    assert config.app.virtualenv == str(tmp_path / "venv")
    assert problems(load, "[uwsgi]\nchdir = ../app\nwsgi-file = gone.py\n") == [
        f"blog.ini:3: wsgi-file: there is no file {tmp_path}/app/gone.py"
    ]


def test_a_file_that_is_nowhere(load: Load, tmp_path: Path) -> None:
    for chdir in ("", "chdir = ../app\n"):
        found = problems(load, f"[uwsgi]\n{chdir}wsgi-file = ../gone.py\n")
        assert [line.partition(": ")[2] for line in found] == [
            f"wsgi-file: there is no file {tmp_path}/gone.py"
        ]


def test_the_last_scalar_counts_and_its_forerunners_are_named(load: Load) -> None:
    config = load("[uwsgi]\nmodule = a\nworkers = nonsense\nwsgi = b\nprocesses = 3\n")
    assert (config.app.module, config.processes) == ("b", 3)
    assert warnings(config) == [
        "blog.ini:2: module: is set again in line 4, which counts",
        "blog.ini:3: workers: is set again in line 5, which counts",
    ]


def test_what_uwsgi_has_and_we_do_not(load: Load) -> None:
    config = load(
        "[uwsgi]\nmodule = a\nharakiri-queue-threshold = 30\nasync = 4\nwebdav-css = x\nlog-route = a b\n[else]\nx = 1\n"
    )
    assert warnings(config) == [
        "blog.ini:3: harakiri-queue-threshold: uWSGI has it, we do not: it has no effect (a request that runs too long"
        " is answered for and its worker ended, however short the queue is)",
        "blog.ini:4: async: uWSGI has it, we do not: it has no effect"
        " (a worker runs several requests at once with threads or gevent)",
        "blog.ini:5: webdav-css: uWSGI has it, we do not: it has no effect",
        "blog.ini:6: log-route: uWSGI has it, we do not: it has no effect"
        " (there are access-log, log-format and logto; the emperor's log has its own form)",
        "blog.ini:7: section [else] is not read (only [uwsgi] or [vassal] is)",
    ]


def test_what_is_always_so_is_a_note_and_its_opposite_a_warning(load: Load) -> None:
    config = load(
        "[uwsgi]\nmodule = a\nmaster = true\nvacuum\nplugins = python3\nbuffer-size ="
        " 65535\ndie-on-term = off\n"
    )
    assert [str(note).rpartition("/")[2] for note in config.notes] == [
        "blog.ini:3: master: needs no saying here (every app has a process of its own that"
        " supervises its workers)",
        "blog.ini:4: vacuum: needs no saying here (sockets and files are always removed at the end)",
        "blog.ini:5: plugins: needs no saying here (nothing has to be loaded for Python)",
        "blog.ini:6: buffer-size: needs no saying here (a request's head may always have 64 KB)",
    ]
    assert warnings(config) == [
        "blog.ini:7: die-on-term: cannot be turned off (TERM always stops, after requests have finished)"
    ]


def test_a_guard_that_is_off_guards_nothing(load: Load) -> None:
    assert [note.key for note in load("[uwsgi]\nmodule = a\nno-initgroups = false\n").notes] == [
        "no-initgroups"
    ]
    for value in ("true", "", "nonsense"):
        assert "no-initgroups: not supported, and ignoring it would open a door" in "".join(
            problems(load, f"[uwsgi]\nmodule = a\nno-initgroups = {value}\n")
        )


@pytest.mark.parametrize(
    ("lines", "engine"),
    [
        ("threads = 8", EngineSpec(interface="", slots=8)),
        (
            "threads = 2\nthreads-stacksize = 512",
            EngineSpec(interface="", slots=2, thread_stack_bytes=512 * 1024),
        ),
        ("gevent = 100", EngineSpec(interface="", slots=100, gevent=True)),
        (
            "gevent = 9\ngevent-monkey-patch = false",
            EngineSpec(interface="", slots=9, gevent=True, monkey_patch=False),
        ),
        ("gevent = 9\ngevent-early-monkey-patch", EngineSpec(interface="", slots=9, gevent=True)),
        ("gevent = 0\nthreads = 3", EngineSpec(interface="", slots=3)),
        ("wsgi-disable-file-wrapper = true", EngineSpec(interface="", file_wrapper=False)),
        ("threads = 4\nwsgi-on-loop = true", EngineSpec(interface="", slots=4, on_loop=True)),
    ],
)
def test_how_requests_are_run(load: Load, lines: str, engine: EngineSpec) -> None:
    config = load(f"[uwsgi]\nmodule = a\n{lines}\n")
    assert config.engine == engine
    assert EngineSpec.from_json(engine.to_json()) == engine
    assert warnings(config) == []


@pytest.mark.parametrize(
    ("lines", "engine", "buffered"),
    [
        ("asgi = a:app", EngineSpec(interface="asgi"), False),
        ("asgi = a\nrequest-buffering = true", EngineSpec(interface="asgi"), True),
        ("asgi = a\nconcurrency = 8", EngineSpec(interface="asgi", soft=8, hard=8), False),
        ("asgi = a\nconcurrency = 8 / 512", EngineSpec(interface="asgi", soft=8, hard=512), False),
        (
            "asgi = a\nasgi-loop = asyncio\nlifespan = on\nloop-lag = 2s",
            EngineSpec(interface="asgi", loop="asyncio", lifespan="on", lag_s=2.0),
            False,
        ),
        ("module = a", EngineSpec(interface=""), True),
    ],
)
def test_how_requests_of_an_asgi_app_are_run(
    load: Load, lines: str, engine: EngineSpec, buffered: bool
) -> None:
    config = load(f"[uwsgi]\n{lines}\n")
    assert (config.engine, config.request_buffering) == (engine, buffered)
    assert config.app.module is not None and EngineSpec.from_json(engine.to_json()) == engine


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("asgi = a\nmodule = b", "asgi: the app is named twice, by module and by asgi"),
        ("asgi = a\nthreads = 4", "threads: is for WSGI"),
        ("asgi = a\ngevent = 4", "gevent: is for WSGI"),
        ("asgi = a\nwsgi-on-loop = true", "wsgi-on-loop: is for WSGI"),
        ("module = a\ngevent = 4\nwsgi-on-loop = true", "wsgi-on-loop: excludes gevent = 4"),
        ("asgi = a\npreload = true\npreload-warm-up = /", "preload-warm-up: is for WSGI"),
        ("asgi = a\nconcurrency = 9/8", "the soft limit is 1 at least, and no more than the hard one"),
        ("asgi = a\nconcurrency = 0", "the soft limit is 1 at least"),
        ("asgi = a\nconcurrency = 1/20000", "which is 16384 at most"),
        ("asgi = a\nconcurrency = many", "'many' is no number of requests"),
        ("asgi = a\nconcurrency = 1/2/3", "'1/2/3' is no number of requests"),
        ("asgi = a\nasgi-loop = trio", "asgi-loop"),
        (
            "asgi = a\nprocesses = 1024\nconcurrency = 64/256",
            "concurrency: with 1024 processes, 262144 requests at once",
        ),
    ],
)
def test_what_an_asgi_app_cannot_have(load: Load, lines: str, said: str) -> None:
    assert said in "\n".join(problems(load, f"[uwsgi]\n{lines}\n"))


def test_a_page_has_room_for_what_the_app_may_turn_out_to_be() -> None:
    assert EngineSpec(slots=8).page_slots == 8
    assert EngineSpec(interface="asgi", soft=2, hard=32).page_slots == 32
    assert EngineSpec(interface="", slots=300).page_slots == 300
    assert EngineSpec(interface="", slots=1).page_slots == 256


def test_threads_and_greenlets_exclude_each_other(load: Load) -> None:
    assert problems(load, "[uwsgi]\nmodule = a\nthreads = 2\ngevent = 5\n") == [
        "blog.ini:4: gevent: excludes threads = 2 (keep one of the two)"
    ]


def test_there_is_a_limit_to_what_runs_at_once(load: Load) -> None:
    assert (
        "655360 requests at once"
        in problems(load, "[uwsgi]\nmodule = a\nprocesses = 640\nthreads = 1024\n")[0]
    )


def test_a_refused_file_keeps_its_warnings(load: Load) -> None:
    with pytest.raises(ConfigError) as caught:
        load("[uwsgi]\nasync = 2\n")
    assert [warning.key for warning in caught.value.warnings] == ["async"]


def test_placeholders(load: Load, tmp_path: Path) -> None:
    config = load(
        "[uwsgi]\nroot = %d..\nproject = app\nchdir = %(root)/%(project)\nmodule = %n.wsgi\n"
        "env = HOME=$(HOME)\nenv = NAME=%(module)\nenv = RATE=100%%\n",
        HOME="/home/blog",
    )
    assert config.app.chdir == str(tmp_path / "app")
    assert config.app.module == "blog.wsgi"
    assert config.app.env == (("HOME", "/home/blog"), ("NAME", "blog.wsgi"), ("RATE", "100%"))
    assert config.warnings == ()


def test_a_key_that_only_a_foreign_option_refers_to_is_a_placeholder(load: Load) -> None:
    config = load("[uwsgi]\nmodule = a\nbase = /run\nmap-socket = %(base)/a.sock\n")
    assert [warning.key for warning in config.warnings] == ["map-socket"]


def test_a_single_letter_is_a_placeholder_where_something_refers_to_it(load: Load) -> None:
    assert load("[uwsgi]\nmodule = a\np = 3\n").processes == 3
    config = load("[uwsgi]\nmodule = a\np = 8000\nenv = PORT=%(p)\n")
    assert config.processes == 1
    assert config.app.env == (("PORT", "8000"),)


def test_a_placeholder_without_a_reference_is_an_unknown_key(load: Load) -> None:
    assert problems(load, "[uwsgi]\nmodule = a\nqqq = app\n") == ["blog.ini:3: qqq: unknown key"]


def test_a_dead_key_is_no_placeholder_because_a_log_line_has_a_variable_of_its_name(load: Load) -> None:
    file = "[uwsgi]\nmodule = a\nuser = www-data\nlog-format = %(addr) - %(user)\nlog-field = who=%(user)\n"
    assert problems(load, file) == ["blog.ini:3: user: unknown key"]
    through = file.replace("log-format = ", "form = %(more)\nlog-format = %(form)\nmore = ")
    assert problems(load, through) == ["blog.ini:3: user: unknown key"]
    assert problems(load, file + "if-env = NO\nroute = ^/%(user) break\nendif\n") == [
        "blog.ini:3: user: unknown key"
    ]


def test_a_log_line_s_variable_is_the_request_s_even_where_a_key_has_its_name(load: Load) -> None:
    config = load(
        "[uwsgi]\nmodule = a\nuser = www\nsite = blog\nenv = USER=%(user)\n"
        "line = %(addr) %(user) %(site)\nlog-format = %(line)\n"
    )
    assert config.access is not None
    assert config.access.format == "%(addr) %(user) blog"
    assert warnings(config) == [
        "blog.ini:7: log-format: %(user) is of the request and not the key of this name "
        "(uWSGI would put the value of the key user there)"
    ]


def test_what_is_set_for_nothing_is_a_warning(load: Load) -> None:
    config = load("[uwsgi]\nmodule = a\nset = processe=3\nset-ph = uiid=5\nset = used=1\nenv = A=%(used)\n")
    assert warnings(config) == [
        "blog.ini:3: processe: is no option, and nothing refers to it (did you mean 'processes'?)",
        "blog.ini:4: uiid: is no option, and nothing refers to it (did you mean 'uid'?)",
    ]


def test_a_setting_of_the_emperor_s_is_named_as_such(load: Load) -> None:
    file = "put it into the emperor's settings file, or start the emperor with"
    config = load("[uwsgi]\nmodule = a\nvassal-set = processes=2\nemperor = /v\n")
    assert warnings(config) == [
        f"blog.ini:3: vassal-set: is a setting of the emperor's: it has no effect in a vassal's file ({file} --vassal-set)",
        f"blog.ini:4: emperor: is a setting of the emperor's: it has no effect in a vassal's file ({file} --vassals)",
    ]
    assert problems(load, "[uwsgi]\nmodule = a\nhead-timeout = 5\nspool-dir = /x\nx = a.xml\n") == [
        f"blog.ini:3: head-timeout: unknown key ({file} --head-timeout)",
        f"blog.ini:4: spool-dir: unknown key ({file} --spool-dir)",
        "blog.ini:5: x: unknown key (the command line's short form of xml, which is not read: "
        "write it as .ini, .toml, .yaml or .json)",
    ]


def test_what_is_wrong_with_variables(load: Load) -> None:
    content = "[uwsgi]\nmodule = %(nope)\nchdir = @(/no/x)\nprocesses = %(a * 2)\n"
    content += "env = H=%(x + 1)\nenv = A=%(a)\na = %(a)\nx=y\n"
    assert problems(load, content) == [
        "blog.ini:2: module: %(nope) refers to no key of this file (set nope, or write %%(nope) for the text itself)",
        "blog.ini:3: chdir: @(/no/x): /no/x is not there, or no longer",
        "blog.ini:4: processes: %(a) refers to itself (a → a)",
        "blog.ini:5: env: %(x + 1) calculates with 'y', which is no whole number",
        "blog.ini:6: env: %(a) refers to itself (a → a)",
    ]


def test_what_only_looks_like_a_placeholder_stays_in_the_app_s_own_text(load: Load) -> None:
    config = load(
        "[uwsgi]\nmodule = a\nenv = F=%(asctime)s %(n + 1)\nenv = G=%%(asctime)s %%(n)\nn = 1\n"
        "form = %(levelname)s\nenv = H=%(form)\nset = kept=%%(message)s\nenv = I=%(kept)\nprint = %(x)\n"
    )
    assert config.app.env == (
        ("F", "%(asctime)s 2"),
        ("G", "%(asctime)s 1"),
        ("H", "%(levelname)s"),
        ("I", "%(message)s"),
    )
    stays = "refers to no key of this file and stays as it is"
    assert warnings(config) == [
        f"blog.ini:3: env: %(asctime) {stays} (set asctime, or write %%(asctime) for the text itself)",
        f"blog.ini:7: env: %(levelname) {stays} (set levelname, or write %%(levelname) for the text itself)",
        f"blog.ini:10: print: %(x) {stays} (set x, or write %%(x) for the text itself)",
    ]


def test_what_the_hint_says_of_a_placeholder_is_right(load: Load, tmp_path: Path) -> None:
    (tmp_path / "vassals" / "%(odd)").mkdir()
    with pytest.raises(
        ConfigError, match=r"%\(odd\) refers to no key of this file \(set odd, or write %%\(odd\) "
    ):
        load("[uwsgi]\nmodule = a\nchdir = %(odd)\n")
    assert load("[uwsgi]\nmodule = a\nchdir = %%(odd)\n").app.chdir == str(tmp_path / "vassals" / "%(odd)")


def test_what_uwsgis_environment_says_is_answered_as_in_a_file(load: Load) -> None:
    """A uid that stands nowhere else, a guard, a typo: passed over, the app would run as root and unguarded."""
    uid = os.getuid()
    config = load("[uwsgi]\nmodule = a\n", UWSGI_UID=str(uid), UWSGI_GID="0", UWSGI_QQQQ="1")
    assert (config.uid, config.gid) == (uid, 0)
    assert warnings(config) == ["the emperor's environment: qqqq: is no option, and nothing refers to it"]
    assert problems(load, "[uwsgi]\nmodule = a\n", UWSGI_CHROOT="/srv", UWSGI_PROCESSES="many") == [
        "the emperor's environment: chroot: not supported, and ignoring it would open a door (it isolates the app from "
        "the system; remove the line if the app is safe without it)",
        "the emperor's environment: processes: 'many' is not a whole number",
    ]
    assert load("[uwsgi]\nmodule = a\nprocesses = 2\n", UWSGI_PROCESSES="3").processes == 2


def test_a_variable_that_is_not_set_is_a_warning(load: Load) -> None:
    config = load("[uwsgi]\nmodule = a\nenv = A=$(NOPE)\n")
    assert config.app.env == (("A", ""),)
    assert warnings(config) == [
        "blog.ini:3: env: $(NOPE) is not set in the emperor's environment (it stands for nothing)"
    ]


def test_toml_is_literal(load: Load) -> None:
    config = load('module = "a"\n[env]\nRATE = "100%% %n $(HOME) @(x)"\nPORT = 80\n', "blog.toml")
    assert config.app.env == (("RATE", "100%% %n $(HOME) @(x)"), ("PORT", "80"))


def test_a_user_brings_its_own_group(load: Load) -> None:
    user = pwd.getpwuid(os.getuid())
    config = load(f"[uwsgi]\nmodule = a\nuid = {user.pw_name}\n")
    assert (config.uid, config.gid) == (user.pw_uid, user.pw_gid)


def test_a_user_that_the_system_does_not_know_needs_a_group(load: Load) -> None:
    assert problems(load, "[uwsgi]\nmodule = a\nuid = 4000000000\n") == [
        "blog.ini:3: uid: the system knows no user 4000000000, so no group of its own (set gid, too)"
    ]
    config = load("[uwsgi]\nmodule = a\nuid = 4000000000\ngid = 4000000001\n")
    assert (config.uid, config.gid) == (4000000000, 4000000001)
    assert problems(load, "[uwsgi]\nmodule = a\nuid = 4000000000\ngid = nope-nope\n") == [
        "blog.ini:4: gid: there is no group 'nope-nope'"
    ]


@pytest.mark.parametrize("variable", ["PYTHONHASHSEED", "LD_PRELOAD", "MALLOC_ARENA_MAX", "LC_ALL", "LANG"])
def test_what_only_a_fresh_interpreter_sees_is_execd(load: Load, variable: str) -> None:
    config = load(f"[uwsgi]\nmodule = a\nenv = {variable}=1\n")
    assert config.spawn == config.options["spawn"] == "exec"
    assert config.warnings == ()
    config = load(f"[uwsgi]\nmodule = a\nenv = {variable}=1\nspawn = fork\n")
    assert config.spawn == "exec"
    assert warnings(config) == [
        f"blog.ini:4: spawn: env sets {variable}, which only a fresh interpreter sees (spawn = exec)"
    ]


def test_a_callable_after_the_colon_counts(load: Load) -> None:
    config = load("[uwsgi]\nmodule = a:app\ncallable = other\n")
    assert (config.app.module, config.app.callable) == ("a:app", None)
    assert warnings(config) == ["blog.ini:3: callable: module = a:app names it already, which counts"]
    assert load("[uwsgi]\nmodule = a:app\ncallable = app\n").warnings == ()
    assert load("[uwsgi]\nmodule = a\ncallable = app\n").app.callable == "app"


def test_a_path_of_packages_that_is_not_there_is_a_warning(load: Load, tmp_path: Path) -> None:
    config = load("[uwsgi]\nmodule = a\npythonpath = /no/such\npythonpath = ../ap*\n")
    assert config.app.pythonpath == (str(tmp_path / "app"),)
    assert warnings(config) == ["blog.ini:3: pythonpath: there is no /no/such (it has no effect)"]


def test_a_name_that_reads_as_a_domain_is_one(load: Load) -> None:
    config = load("[uwsgi]\nmodule = a\n", "Blog.Example.com.ini")
    assert config.name == "Blog.Example.com"
    assert config.domains == ("blog.example.com", "blog.example.com.localhost")


def test_a_relative_path_and_the_process_environment(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load("[uwsgi]\nmodule = $(MODULE_OF_TEST)\n", MODULE_OF_TEST="a")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODULE_OF_TEST", "b")
    config = load_vassal(Path("vassals/blog.ini"), directory=Path("vassals"))
    assert config.path == str(tmp_path / "vassals" / "blog.ini")
    assert config.app.module == "b"


def test_a_hostile_file_costs_little_and_says_little(load: Load) -> None:
    content = "[uwsgi]\n" + "".join(f"procesess{number} = 1\n" for number in range(9_000))
    started = time.process_time()
    found = problems(load, content)
    assert time.process_time() - started < 5
    assert len(found) == 101
    assert sum("did you mean" in line for line in found) == 20
    assert found[-1].endswith("and 8901 more")


def test_a_hostile_file_of_known_keys_costs_little_too(load: Load) -> None:
    content = "[uwsgi]\nmodule = a\n" + "web3 = 1\n" * 4_900 + "master = 1\n" * 4_900
    started = time.process_time()
    config = load(content)
    assert time.process_time() - started < 5
    assert (len(config.warnings), len(config.notes)) == (101, 101)


def test_a_file_of_too_many_lines_is_refused_without_reading_on(load: Load) -> None:
    content = "[uwsgi]\nmodule = a\n" + "master = 1\n" * 90_000
    assert problems(load, content)[0] == "blog.ini: comes to more than 10000 lines"
    for line in ("for-times = 200\nenv = A=1\nenv = B=1\nendfor\n" * 30, "for = %(x)\ny=1\nendfor\n"):
        found = problems(load, "[uwsgi]\nmodule = a\nx = " + "a " * 11_000 + "\n" + line)
        assert "blog.ini: comes to more than 10000 lines" in found


@pytest.mark.parametrize("option", ["domain = a{}.com", "env = A{}=1", "pythonpath = ../app/x{}"])
def test_values_of_one_option_are_bounded(load: Load, option: str) -> None:
    lines = [option.format(number) for number in range(1001)]
    key = option.split()[0]
    load("[uwsgi]\nmodule = a\n" + "\n".join(lines[:1000]))
    assert problems(load, "[uwsgi]\nmodule = a\n" + "\n".join(lines)) == [
        f"blog.ini:1003: {key}: has more than 1000 values"
    ]


def test_what_surrounds_the_app(load: Load, tmp_path: Path) -> None:
    config = load(
        "[uwsgi]\nmodule = a\numask = 027\nchdir2 = ../app\nimport = one.two\nshared-import = three\n"
        "env = A=1\nenv = B=2\nunenv = TZ\nunenv = B\n"
    )
    app = config.app
    assert (app.umask, app.chdir_after) == (0o27, str(tmp_path / "app"))
    assert (app.imports, app.env, app.unenv) == (("one.two", "three"), (("A", "1"),), ("TZ", "B"))
    assert warnings(config) == ["blog.ini:9: unenv: takes away B, which env sets"]
    assert load("umask = '0o77'\nmodule = 'a'\n", "blog.toml").app.umask == 0o77
    assert problems(load, "umask = 22\nmodule = 'a'\n", "blog.toml") == [
        "blog.toml:1: umask: 22 is not text (put it in quotes)"
    ]
    assert problems(
        load, "[uwsgi]\nmodule = a\numask = 9\nimport = x.py\nunenv = A=1\nchdir2 = /no/such\n"
    ) == [
        "blog.ini:3: umask: '9' is no umask (write it in octal, as 022)",
        "blog.ini:4: import: 'x.py' does not name a module (put its directory into pythonpath and name the module)",
        "blog.ini:5: unenv: 'A=1' cannot be the name of a variable (write NAME)",
        "blog.ini:6: chdir2: there is no directory /no/such",
    ]
