"""The hundred options that people use most (the ranking of uWSGI's options by real files): each has a verdict, and a
sentence that says what there is instead.
"""

from pathlib import Path

import pytest

from emperor.config import uwsgi
from emperor.config.loading import examine
from emperor.config.options import NAMES
from emperor.config.uwsgi import SHORT, Answer

# One line a rank. A letter is the short form of the command line, which is no option in a file.
RANKS = """\
master M
processes workers p
module wsgi w
chdir chdir2
socket uwsgi-socket s map-socket
threads
vacuum
http
wsgi-file file
enable-threads T
chmod-socket C
pidfile pidfile2 safe-pidfile safe-pidfile2
die-on-term
max-requests max-requests-delta min-worker-lifetime
buffer-size b
callable
uid gid add-gid master-as-root drop-after-apps drop-after-init
harakiri t
virtualenv home venv pyhome H
http-socket http11-socket
logto logto2
env unenv
static-map static-map2
stats stats-server stats-http
single-interpreter i
daemonize d daemonize2
memory-report m
disable-logging L
pythonpath pp
post-buffering
socket-timeout
plugin plugins
need-app
lazy-apps lazy
log-format logformat
ini include inherit
http-timeout
strict
thunder-lock
disable-write-exception ignore-write-errors ignore-sigpipe
logger req-logger
chown-socket
listen l
log-maxsize log-backupname
log-date
attach-daemon
hook-master-start hook-post-app hook-as-user
py-autoreload
reload-on-rss reload-on-as
max-worker-lifetime max-worker-lifetime-delta
worker-reload-mercy
reload-mercy
offload-threads
wsgi-disable-file-wrapper
auto-procname procname-prefix procname-prefix-spaced procname-master procname
log-master
log-reopen
log-4xx log-5xx log-slow log-big log-zero log-sendfile log-ioerror
touch-reload
no-orphans
gevent gevent-monkey-patch gevent-early-monkey-patch gevent-wait-for-hub
cache2
spooler
route route-if response-route
static-expires static-expires-uri static-expires-type static-expires-path-info static-expires-mtime
protocol socket-protocol
show-config
vhost
honour-stdin
log-encoder log-req-encoder
cheaper cheaper-initial cheaper-step cheaper-algo cheaper-overload cheaper-busyness-max
mount manage-script-name
master-fifo
cron unique-cron cron2 legion-cron
mule mules farm
reload-on-exception
safe-pidfile
static-gzip-all
check-static static-index static-skip-ext static-safe
add-header
limit-post
http-keepalive http-auto-chunked http-websockets
https ssl-option
alarm log-alarm alarm-backlog
max-fd
import shared-import
fs-reload
exec-asap exec-pre-jail exec-pre-app exec-post-app exec-as-user
touch-chain-reload touch-workers-reload
subscribe-to subscribe2
idle die-on-idle cheap
evil-reload-on-rss evil-reload-on-as limit-as limit-nproc
py-tracebacker
py-call-osafterfork py-call-uwsgi-fork-hooks
harakiri-verbose harakiri-graceful-timeout harakiri-graceful-signal harakiri-queue-threshold
log-x-forwarded-for
remap-modifier mime-file file-serve-mode
smart-attach-daemon attach-control-daemon attach-daemon2
cpu-affinity reuse-port so-keepalive tcp-nodelay so-send-timeout freebind
paste ini-paste ini-paste-logged pecan
"""
TABLE = [line.split() for line in RANKS.splitlines()]
LISTED = [name for names in TABLE for name in names]

_ALWAYS_SO = """
master vacuum enable-threads die-on-term buffer-size single-interpreter disable-logging plugin
plugins lazy-apps lazy strict thunder-lock disable-write-exception ignore-write-errors
ignore-sigpipe auto-procname no-orphans show-config http-keepalive http-auto-chunked max-fd
py-call-osafterfork master-as-root drop-after-apps drop-after-init
log-master log-reopen http-websockets
"""
ALWAYS_SO = frozenset(_ALWAYS_SO.split())
_GUARDS = """
route route-if response-route static-skip-ext static-safe limit-as limit-nproc
"""
GUARDS = frozenset(_GUARDS.split())
READ = frozenset(("ini", "include", "inherit"))
_MUST_WORK = """
processes workers p module wsgi chdir wsgi-file file callable uid gid virtualenv home venv pyhome
env pythonpath pp need-app limit-post unenv chdir2 import
shared-import
"""
MUST_WORK = frozenset(_MUST_WORK.split())


def test_there_are_a_hundred() -> None:
    assert len(TABLE) == 100


@pytest.mark.parametrize("name", dict.fromkeys(LISTED))
def test_each_has_a_verdict_and_says_what_there_is_instead(name: str) -> None:
    if name in NAMES:
        assert name not in GUARDS | READ
        return
    assert name not in MUST_WORK
    if len(name) == 1:
        assert SHORT[name] in NAMES or uwsgi.look_up(SHORT[name]) is not None
        return
    known = uwsgi.look_up(name)
    assert known is not None
    expected = Answer.MISSING
    for names, answer in ((ALWAYS_SO, Answer.HOLDS), (GUARDS, Answer.GUARD), (READ, Answer.DIALECT)):
        if name in names:
            expected = answer
    assert known.answer is expected
    assert known.text


def test_no_logic_line_is_left_unread() -> None:
    for name, kind in uwsgi.kinds().items():
        if kind == "logic":
            known = uwsgi.look_up(name)
            assert known is not None and known.answer is Answer.DIALECT


@pytest.mark.parametrize(("name", "option"), SHORT.items())
def test_a_short_form_is_no_option_in_a_file(name: str, option: str, tmp_path: Path) -> None:
    path = tmp_path / "app.ini"
    path.write_text(f"[uwsgi]\nmodule = a\n{name} = 1\n")
    assert name not in NAMES
    (problem,) = examine(path, directory=tmp_path).problems
    known = uwsgi.look_up(option)
    unread = known is not None and known.answer is Answer.UNREAD  # XML: no advice to write it
    said = f" of {option}, which is not read: " if unread else f"; write {option})"
    assert str(problem).startswith(f"{path}:3: {name}: unknown key (the command line's short form{said}")
