"""What the options about logs come to together."""

from pathlib import Path

import pytest

from emperor.config import ConfigError, load_vassal
from emperor.config.accesslog import STDOUT, AccessLog
from emperor.config.loading import VassalConfig


def load(tmp_path: Path, *lines: str) -> VassalConfig:
    path = tmp_path / "blog.ini"
    path.write_text("\n".join(["[uwsgi]", "module = a", *lines]) + "\n")
    return load_vassal(path, directory=tmp_path)


@pytest.mark.parametrize(
    ("lines", "log"),
    [
        ([], None),
        (["access-log = off"], None),
        (["access-log = -"], AccessLog(place=STDOUT)),
        (["access-log = /dev/stdout"], AccessLog(place=STDOUT)),
        (["access-log = x.log"], AccessLog(place="@/x.log")),
        (["req-logger = file:/x/y.log"], AccessLog(place="/x/y.log")),
        (["req-logger = stdio:"], AccessLog(place=STDOUT)),
        (
            ["req-logger = all file:logfile=/x/y.log,maxsize=2048,backupname=/x/old"],
            AccessLog(place="/x/y.log", max_bytes=2048, backup="/x/old"),
        ),
        (
            ["log-maxsize = 1k", "req-logger = file:logfile=/x/y.log,maxsize=2048"],
            AccessLog(place="/x/y.log", max_bytes=1024),
        ),
        (["logformat = %(uri)"], AccessLog(place=STDOUT, format="%(uri)")),
        (["log-format = json", "log-field = t=%(var.HTTP_T)"],
         AccessLog(place=STDOUT, format="json", fields=(("t", "%(var.HTTP_T)"),))),
        (["logto = /x", "log-format = uwsgi"], AccessLog(place="/x", format="uwsgi")),
        (["log-format = uwsgi", "disable-logging = true"], None),
        (["access-log = /x", "disable-logging = true"], None),
        (["access-log = off", "log-5xx = true"], None),
        (["log-5xx = true"], AccessLog(place=STDOUT, everything=False, server_errors=True)),
        (["disable-logging = 1", "log-4xx = 1", "log-slow = 250", "log-big = 1k", "log-zero = 1", "logto = /x"],
         AccessLog(place="/x", everything=False, client_errors=True, slow_ms=250, big_bytes=1024, zero=True)),
        (["access-log = /x", "log-x-forwarded-for = 1", "log-maxsize = 1m", "log-backupname = /x.old"],
         AccessLog(place="/x", forwarded=True, max_bytes=1 << 20, backup="/x.old")),
        (["logto = /x", "access-log = /x", "log-maxsize = 1m"], AccessLog(place="/x")),
    ],
)  # fmt: skip
def test_the_access_log(tmp_path: Path, lines: list[str], log: AccessLog | None) -> None:
    config = load(tmp_path, *lines)
    assert not config.warnings
    if log is not None and log.place.startswith("@"):
        log = AccessLog(place=str(tmp_path) + log.place[1:])
    assert config.access == log


def test_what_a_logger_says_beside_its_path_is_an_option_or_a_warning(tmp_path: Path) -> None:
    config = load(tmp_path, "logger = file:logfile=/x/out,maxsize=10k,maxlines=7")
    assert (config.logto, config.log_max_bytes) == ("/x/out", 10240)
    assert [str(warning).replace(f"{tmp_path}/", "") for warning in config.warnings] == [
        "blog.ini:3: logger: 'maxlines' of the logger has no effect (keys are logfile, maxsize and backupname)"
    ]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("access-log = /var/log/", "access-log: '/var/log/' is no file"),
        ("req-logger = syslog:app", "the logger 'syslog' is not there"),
        ("logto = 127.0.0.1:5140", "logs are not sent over the network"),
        ("log-slow = true", "log-slow: "),
        ("req-logger = file:logfile=/x,maxsize=big", "req-logger: 'big' is not a size"),
        ("log-field = tenant", "'tenant' has no template"),
    ],
)
def test_what_is_wrong_is_named_at_its_line(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, line)
    assert "blog.ini:3: " in str(caught.value) and says in str(caught.value)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("log-format = %(statsu)", "log-format: %(statsu) is no variable of a log format, and written as - "
         "(did you mean %(status)?)"),
        ("logformat = %(REMOTE_ADDR)", "a variable of the request is written %(var.REMOTE_ADDR)"),
        ("log-field = t=%(nope)", "log-field: %(nope) is no variable"),
    ],
)  # fmt: skip
def test_a_variable_that_we_do_not_have_is_a_warning(tmp_path: Path, line: str, says: str) -> None:
    """In uWSGI's own files it is one that the app sets: no reason not to serve it."""
    (warning,) = load(tmp_path, line).warnings
    assert "blog.ini:3: " in str(warning) and says in str(warning)


def test_the_files_of_the_app(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    config = load(
        tmp_path, "chdir = app", "logto2 = out.log", "safe-pidfile = run/app.pid", "log-maxsize = 10k"
    )
    assert (config.logto, config.pidfile) == (f"{tmp_path}/app/out.log", f"{tmp_path}/app/run/app.pid")
    assert config.log_max_bytes == 10240
    assert load(tmp_path, "logto = /dev/null").logto == "off"
    assert load(tmp_path, "logto = /dev/stdout").logto is None
