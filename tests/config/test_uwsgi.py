from fnmatch import fnmatchcase

import pytest

from emperor.config import uwsgi
from emperor.config.options import NAMES
from emperor.config.uwsgi import RULES, Answer


def test_all_names_are_there() -> None:
    assert len(uwsgi.kinds()) == 1259
    assert set(uwsgi.kinds().values()) == {"flag", "number", "text", "list", "logic", "other"}


def test_each_pattern_decides_something() -> None:
    for rule in RULES:
        for pattern in rule.patterns:
            hits = [name for name in uwsgi.kinds() if fnmatchcase(name, pattern)]
            assert hits, f"{pattern} matches no option of uWSGI"
            decided = [name for name in hits if (known := uwsgi.look_up(name)) and known.text == rule.text]
            assert decided, f"{pattern} is hidden by an earlier rule"


def test_no_rule_is_about_an_option_of_ours() -> None:
    for rule in RULES:
        for pattern in rule.patterns:
            assert not [name for name in NAMES if name == pattern]


def test_two_spellings_of_one_option_are_answered_alike() -> None:
    """uWSGI spells many an option in two ways: with and without hyphens, in the plural, with py and python."""
    spellings: dict[tuple[str, str], set[str]] = {}
    for name, kind in uwsgi.kinds().items():
        stem = name.replace("python", "py").replace("-", "").replace("_", "")
        stem = name if name in ("http", "https") else stem.rstrip("s")  # two options indeed
        spellings.setdefault((stem, kind), set()).add(name)
    assert len([names for names in spellings.values() if len(names) > 1]) > 40
    for names in spellings.values():
        answers = {
            NAMES[name].name
            if name in NAMES
            else (known := uwsgi.look_up(name)) and (known.answer, known.text)
            for name in names
        }
        assert len(answers) == 1, names
    imports = {
        name for name in uwsgi.kinds() if name.removeprefix("shared-") in ("py-import", "pyimport", "import")
    }
    assert {NAMES[name].name for name in imports} == {"import"}


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("enable-proxy-protocol", "proxy-protocol ="),
        ("rem-header", "let the app add it"),
        ("logfile-chmod", "logto"),
        ("harakiri-queue-threshold", "however short the queue"),
        ("gevent-wait-for-hub", "gevent = N"),
        ("post-buffering-bufsize", "post-buffering"),
        ("reload-on-fd", "reload-on-rss"),
        ("mount", "manage-script-name"),
        ("cheaper", "all of the app's processes run"),
    ],
)
def test_what_is_missing_names_what_there_is(name: str, word: str) -> None:
    known = uwsgi.look_up(name)
    assert known is not None and known.answer is Answer.MISSING
    assert word in known.text


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        *(
            (name, Answer.HOLDS)
            for name in ("master", "vacuum", "die-on-term", "enable-threads", "single-interpreter")
        ),
        *(
            (name, Answer.HOLDS)
            for name in ("lazy-apps", "plugins", "thunder-lock", "strict", "buffer-size", "http-websockets")
        ),
        *(
            (name, Answer.GUARD)
            for name in ("limit-as", "limit-nproc", "chroot", "cap", "cgroup", "static-safe")
        ),
        *(
            (name, Answer.GUARD)
            for name in ("route", "route-if", "route-remote-addr", "response-route-if", "unshare")
        ),
        *(
            (name, Answer.GUARD)
            for name in ("namespace", "immediate-uid", "jail-ip4", "no-initgroups", "emperor-tyrant")
        ),
        *(
            (name, Answer.MISSING)
            for name in (
                "harakiri-queue-threshold",
                "threads",
                "puwsgi-socket",
                "map-socket",
                "logto",
                "reload-on-fd",
            )
        ),
        *(
            (name, Answer.MISSING)
            for name in ("static-map", "mount", "cheaper", "websocket-max-size", "webdav-css")
        ),
        *(
            (name, Answer.DIALECT)
            for name in ("include", "inherit", "ini", "if-env", "for", "endfor", "set-ph")
        ),
    ],
)
def test_answers(name: str, answer: Answer) -> None:
    known = uwsgi.look_up(name)
    assert known is not None
    assert known.answer is answer


def test_every_conditional_line_is_part_of_the_dialect() -> None:
    for name, kind in uwsgi.kinds().items():
        known = uwsgi.look_up(name)
        assert known is not None
        if kind == "logic":
            assert known.answer is Answer.DIALECT, name


def test_an_unknown_name() -> None:
    assert uwsgi.look_up("vaccum") is None
    assert uwsgi.nearest("vaccum") == "vacuum"
    assert uwsgi.nearest("max_requests") == "max-requests"
    assert uwsgi.nearest("qqqqqq") is None
