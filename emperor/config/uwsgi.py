"""What uWSGI has and we do not: every option name of uWSGI 2.0, and what a vassal file that holds it gets.

Five answers:

* HOLDS: what it asks for is always so here. Noted by `emperor check`, otherwise silent; asking for the
  opposite is a warning.
* MISSING: we do not have it. A warning, and the app starts without it.
* GUARD: it keeps something out (access rules, isolation, limits). The file is refused, since an app that
  starts without its guard is an open door, and nobody reads a warning before the first request.
* DIALECT: a line that says how the file is read (includes, conditions, loops). Carried out before options are
  looked at (`emperor.config.dialect`).
* UNREAD: a line that would have uWSGI read something that we do not. An error: a file of which we understood
  half is not the file that was written.

The names and kinds are facts taken from the option tables of uWSGI 2.0.x (`uwsgi_options.tsv`: name, tab,
kind).
"""

import difflib
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources


class Answer(Enum):
    HOLDS = "holds"
    MISSING = "missing"
    GUARD = "guard"
    DIALECT = "dialect"
    UNREAD = "unread"


@dataclass(frozen=True)
class Known:
    """One option of uWSGI's that is none of ours. `kind` is flag, number, text, list, logic or other;
    `text` may be empty.
    """

    name: str
    kind: str
    answer: Answer
    text: str


@dataclass(frozen=True)
class Rule:
    """The first rule with a pattern that matches a name decides; a name that no rule matches is MISSING."""

    answer: Answer
    text: str
    patterns: tuple[str, ...]


def _rule(answer: Answer, text: str, patterns: str) -> Rule:
    return Rule(answer, text, tuple(patterns.split()))


_LISTENERS = "an app listens by socket (uwsgi), http-socket and https-socket"

# uWSGI's command line has these for its options; in a file it passes over them without a word.
SHORT = {
    "M": "master",
    "w": "module",
    "T": "enable-threads",
    "C": "chmod-socket",
    "b": "buffer-size",
    "t": "harakiri",
    "H": "virtualenv",
    "i": "single-interpreter",
    "d": "daemonize",
    "m": "memory-report",
    "L": "disable-logging",
    "z": "socket-timeout",
    "x": "xml",
    "y": "yaml",
    "j": "json",
}

RULES: tuple[Rule, ...] = (
    # What is always so here
    _rule(Answer.HOLDS, "every app has a process of its own that supervises its workers", "master"),
    _rule(Answer.HOLDS, "sockets and files are always removed at the end", "vacuum"),
    _rule(
        Answer.HOLDS,
        "TERM always stops, after requests have finished",
        "die-on-term emperor-graceful-shutdown",
    ),
    _rule(Answer.HOLDS, "Python threads always run", "enable-threads"),
    _rule(Answer.HOLDS, "there is one interpreter a worker", "single-interpreter"),
    _rule(Answer.HOLDS, "every worker loads the app itself, unless preload is set", "lazy-apps lazy"),
    _rule(
        Answer.HOLDS,
        "nothing has to be loaded for Python",
        "plugin plugins plugin-dir plugins-dir need-plugin need-plugins",
    ),
    _rule(Answer.HOLDS, "the router gives each request to one worker", "thunder-lock"),
    _rule(Answer.HOLDS, "an unknown key is always an error", "strict"),
    _rule(Answer.HOLDS, "a request's head may always have 64 KB", "buffer-size"),
    _rule(Answer.HOLDS, "workers never outlive the process that supervises them", "no-orphans"),
    _rule(Answer.HOLDS, "what an app leaves behind is always reaped", "reaper"),
    _rule(Answer.HOLDS, "every process has a title", "auto-procname"),
    _rule(
        Answer.HOLDS,
        "no worker writes a log file, and logs are opened anew at every reload",
        "log-master log-reopen",
    ),
    _rule(Answer.HOLDS, "workers start with no descriptor but their own", "close-on-exec close-on-exec2"),
    _rule(
        Answer.HOLDS,
        "a client that has gone is never a write error to the app",
        "ignore-sigpipe ignore-write-errors disable-write-exception",
    ),
    _rule(Answer.HOLDS, "a worker is forked by Python itself, which runs the hooks", "py-call-osafterfork"),
    _rule(
        Answer.HOLDS,
        "the router speaks HTTP/1.1: connections are kept as long as idle-timeout of the emperor says",
        "http-keepalive",
    ),
    _rule(
        Answer.HOLDS,
        "the router speaks HTTP/1.1: an answer without a length is chunked",
        "http-auto-chunked",
    ),
    _rule(Answer.HOLDS, "nothing here grows with the number of descriptors", "max-fd"),
    _rule(Answer.HOLDS, "`emperor check --explain FILE` prints what each line came to mean", "show-config"),
    _rule(
        Answer.HOLDS,
        "the app is loaded as the user that it runs as",
        "master-as-root drop-after-apps drop-after-init",
    ),
    _rule(
        Answer.HOLDS,
        "nothing runs after a request, so nothing there is ended",
        "harakiri-no-arh no-harakiri-arh no-harakiri-after-req-hook",
    ),
    # Guards
    _rule(
        Answer.GUARD,
        "a routing rule may be an access rule",
        "route route-* response-route response-route-* final-route final-route-* error-route error-route-*",
    ),
    _rule(
        Answer.GUARD,
        "it isolates the app from the system",
        "chroot jail jail-* jail2 jailed jidfile jid-file libjail namespace namespace-* ns ns-net setns "
        "setns-* unshare unshare2"
        " pivot-root pivot_root mount-as-* mount-asap mount-in-jail mount-post-jail mount-pre-jail "
        "umount-* emperor-use-clone",
    ),
    _rule(
        Answer.GUARD,
        "it takes privileges from the app",
        "cap emperor-cap vassal-cap vassals-cap no-initgroups pam pam-user cgi-unset "
        "emperor-tyrant*"
        " emperor-nofollow",
    ),
    _rule(Answer.GUARD, "it limits what the app may take", "limit-as limit-nproc cgroup cgroup-*"),
    _rule(Answer.GUARD, "it drops privileges: write uid and gid", "immediate-uid immediate-gid"),
    _rule(
        Answer.GUARD,
        "it is an access rule",
        "static-safe static-skip-ext allowed-modifiers no-default-app http-to-https cgi-allowed-ext "
        "cgi-safe php-allowed-*"
        " subscriptions-*check subscriptions-sign-check-tolerance tuntap-router-firewall-* "
        "tuntap-device-rule tuntap-use-credentials",
    ),
    # What says how the file is read
    _rule(
        Answer.UNREAD,
        "write it as .ini, .toml, .yaml or .json",
        "xml xmlconfig config config-py sqlite sqlite3 ldap ldap-schema ldap-schema-ldif",
    ),
    _rule(Answer.UNREAD, "write the address itself: names are not looked up while a file is read", "resolve"),
    _rule(Answer.UNREAD, "write the text itself, or include a file", "inject-before inject-after"),
    _rule(Answer.UNREAD, "write env = NAME=value, or env = NAME=@(file)", "envdir early-envdir"),
    _rule(
        Answer.DIALECT,
        "reads another file in the place of the line (`inherit`: after everything else)",
        "include inherit ini yaml yml json js",
    ),
    _rule(
        Answer.DIALECT,
        "applies to the lines up to its end",
        "if-* ifdir ifenv ifexists ifplugin end-if endif for for-* end-for endfor",
    ),
    _rule(
        Answer.DIALECT,
        "sets an option, a placeholder, or a word that stands for several lines",
        "set set-ph set-placeholder declare-option declare-option2",
    ),
    _rule(
        Answer.DIALECT,
        "limits the keys of the lines below it",
        "whitelist blacklist end-whitelist end-blacklist",
    ),
    _rule(Answer.DIALECT, "says its value when the file is checked", "print iprint"),
    _rule(Answer.DIALECT, "refuses the file, where its block applies", "exit"),
    # What we do not have, where a word more may help
    _rule(
        Answer.MISSING,
        "the app has the groups of its user: add the user to the group",
        "add-gid",
    ),
    _rule(
        Answer.MISSING,
        "every process has a title of its own kind, with the app's name",
        "procname procname-*",
    ),
    _rule(
        Answer.MISSING,
        "name the app by module or wsgi-file: paste's is application = loadapp('config:/path/of.ini'), "
        "pecan's application = deploy('/path/of/config.py')",
        "paste paste-logger ini-paste ini-paste-logged pecan",
    ),
    _rule(
        Answer.MISSING,
        "a setting of the emperor, for all apps, of the same name (also head-timeout)",
        "http-headers-timeout",
    ),
    _rule(
        Answer.MISSING,
        "use idle-timeout, body-timeout and write-timeout, settings of the emperor, for the client, and request-timeout, an "
        "option of the app, for its answer",
        "http-timeout",
    ),
    _rule(
        Answer.MISSING,
        "the router waits for slow clients, not the worker; its deadlines are settings of the emperor",
        "socket-timeout so-send-timeout socket-send-timeout http-connect-timeout",
    ),
    _rule(
        Answer.MISSING,
        "the router accepts for all apps, and sets its sockets up itself",
        "reuse-port so-keepalive tcp-nodelay freebind http-to http-processes http-workers "
        "http-stats http-modifier1 http-buffer-size http-events http-gid http-uid ssl-option "
        "ssl-sessions-* sni sni-*",
    ),
    _rule(Answer.HOLDS, "WebSockets of ASGI apps are served wherever HTTP is", "http-websockets"),
    _rule(
        Answer.MISSING,
        "for ASGI apps there are ws-max-size (in bytes), ws-ping-interval and ws-ping-timeout; WSGI apps have no WebSockets",
        "websocket*",
    ),
    _rule(
        Answer.MISSING,
        "the subscription server is the emperor's: subscription-server and what belongs to it are settings of his",
        "subscription-* subscriptions-* http-subscription-server fastrouter-subscription-server",
    ),
    _rule(
        Answer.MISSING,
        "an app is reached by its domain; each has a file of its own",
        "vhost vhost-host "
        "unsubscribe-on-graceful-reload fastrouter fastrouter-* rawrouter rawrouter-* http-subscription-*",
    ),
    _rule(
        Answer.MISSING,
        "nothing but the app runs here: let cron or systemd run it",
        "cron cron2 unique-cron legion-cron cron-* unique-legion-cron attach-daemon attach-daemon2 "
        "attach-control-daemon smart-attach-daemon smart-attach-daemon2 daemons-* legion-attach-* "
        "legion-smart-attach-*",
    ),
    _rule(
        Answer.MISSING,
        "there are no background processes but the app's own: a task queue such as Celery or RQ does it, as a unit "
        "of its own",
        "mule mules farm mule-* spooler spooler-* spooler*",
    ),
    _rule(
        Answer.MISSING,
        "TERM stops after requests have finished, which is what unix_signal:15 gracefully_kill_them_all is for; there is no "
        "master to run anything else in",
        "hook-master-start",
    ),
    _rule(
        Answer.MISSING,
        "nothing is run as root for an app: hook-pre-app and exec-pre-app run as its user; let its unit do the rest",
        "hook-as-root exec-as-root call-as-root hook-in-jail exec-in-jail call-in-jail",
    ),
    _rule(
        Answer.MISSING,
        "post-fork-hook, worker-ready-hook and worker-exit-hook call Python in each worker",
        "hook-post-fork call-* after-request-hook after-request-call hook-accepting-once hook-accepting1-once",
    ),
    _rule(
        Answer.MISSING,
        "commands are run at the moments from exec-asap to exec-as-user-atexit",
        "hook-* exec-* binsh",
    ),
    _rule(
        Answer.MISSING,
        "use a cache that apps share already, such as Redis or memcached",
        "cache cache2 cache-* check-cache add-cache-item load-file-in-cache* queue-* sharedarea",
    ),
    _rule(
        Answer.MISSING,
        "alarms are for what watches the statistics and the log",
        "alarm alarm-* log-alarm backlog-alarm lq-alarm listen-queue-alarm alarms-list",
    ),
    _rule(
        Answer.MISSING,
        "`emperor status`, `reload` and `stop` ask the emperor",
        "touch-signal",
    ),
    _rule(
        Answer.MISSING,
        "let the app add it, or the server in front",
        "add-header del-header rem-header collect-header",
    ),
    _rule(
        Answer.MISSING,
        "write proxy-protocol = ADDRESSES, those of the proxies that begin with a PROXY header",
        "enable-proxy-protocol http-enable-proxy-protocol",
    ),
    _rule(
        Answer.MISSING,
        "`emperor trace NAME` shows where the workers are, also one that is stuck",
        "py-tracebacker py-trace*",
    ),
    _rule(
        Answer.MISSING,
        "a reload is a new generation: the former processes exit as soon as it is ready",
        "exit-on-reload",
    ),
    _rule(
        Answer.MISSING,
        "files are not served; let the app or a web server in front do so",
        "offload-thread offload-threads mime-file mimefile file-serve-mode fileserve-mode disable-sendfile",
    ),
    _rule(Answer.MISSING, "requests are Python's: modifier 0 alone", "remap-modifier"),
    _rule(Answer.MISSING, "an app reads no input: debug it under `python -m pdb`", "honour-stdin"),
    _rule(
        Answer.MISSING,
        "a body is read before a worker is asked, up to post-buffering in memory; request-buffering = off passes it on as "
        "it comes",
        "post-buffering-* body-read-warning",
    ),
    _rule(Answer.MISSING, "every request has an environ of its own", "wsgi-env-*"),
    _rule(
        Answer.MISSING,
        "gevent = N is all there is to say: so many requests at once in each worker",
        "gevent-*",
    ),
    _rule(Answer.MISSING, "the scheduler places workers", "cpu-affinity cpu-*"),
    _rule(Answer.MISSING, "`ps` tells the memory of each process", "memory-report"),
    _rule(Answer.MISSING, "there are no fork hooks of uWSGI's to call", "py-call-uwsgi-fork-hooks"),
    _rule(
        Answer.MISSING,
        _LISTENERS,
        "puwsgi-socket shared-socket undeferred-shared-socket map-socket zerg zerg-server fastcgi-socket "
        "fastcgi-modifier1 scgi-socket raw-socket",
    ),
    _rule(
        Answer.MISSING,
        "a worker runs several requests at once with threads or gevent",
        "async greenlet",
    ),
    _rule(
        Answer.MISSING,
        "there are access-log, log-format and logto; the emperor's log has its own form",
        "logger-req log-* logfile-* logformat-strftime logdate",
    ),
    _rule(
        Answer.MISSING,
        "the emperor runs in the foreground",
        "daemonize daemonize2",
    ),
    _rule(
        Answer.MISSING,
        "`emperor status --json` and the emperor's stats socket tell",
        "stats stats-server stats-*",
    ),
    _rule(
        Answer.MISSING,
        "a request that runs too long is answered for and its worker ended, however short the queue is",
        "harakiri-queue-threshold",
    ),
    _rule(
        Answer.MISSING,
        "a worker is replaced by its age, requests, memory (reload-on-rss) and exceptions",
        "reload-on-fd",
    ),
    _rule(Answer.MISSING, "all of the app's processes run, all the time", "cheaper cheaper-*"),
    _rule(Answer.MISSING, "an app runs all the time, asked for or not", "cheap idle die-on-idle"),
    _rule(
        Answer.MISSING,
        "touch-reload starts the whole app anew",
        "touch-*",
    ),
    _rule(
        Answer.MISSING,
        "files are not served; let the app or a web server in front do so",
        "static-* check-static*",
    ),
    _rule(
        Answer.MISSING,
        "give each app a file of its own, with domain = example.com/prefix and manage-script-name",
        "mount worker-mount",
    ),
    _rule(
        Answer.MISSING,
        "an app is named by module or wsgi-file",
        "eval pump web3 wsgi-lite pyrun psgi rack rails cgi php-app",
    ),
)


@cache
def kinds() -> dict[str, str]:
    """Every option name of uWSGI with its kind."""
    table = resources.files("emperor.config").joinpath("uwsgi_options.tsv").read_text("utf-8")
    return dict(line.split("\t") for line in table.splitlines())


def look_up(name: str) -> Known | None:
    """What uWSGI's `name` gets here; None if uWSGI has no such option. Ours are not asked about here."""
    return _by_name(name) if name in kinds() else None


@cache
def _by_name(name: str) -> Known:
    for rule in RULES:
        if any(fnmatchcase(name, pattern) for pattern in rule.patterns):
            return Known(name, kinds()[name], rule.answer, rule.text)
    return Known(name, kinds()[name], Answer.MISSING, "")


def nearest(name: str) -> str | None:
    """The option of uWSGI's that was probably meant by `name`."""
    plain = name.lower().replace("_", "-")
    if plain in kinds():
        return plain
    return next(
        iter(difflib.get_close_matches(plain, [known for known in kinds() if len(known) > 2], 1, 0.8)), None
    )
