import pytest

from emperor.config import options, uwsgi
from emperor.config.options import NAMES, OPTIONS, Kind, Option
from emperor.config.problems import Mistake


def test_no_name_stands_for_two_options() -> None:
    names = [name for option in OPTIONS for name in (option.name, *option.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_each_option_says_what_it_is(option: Option) -> None:
    assert option.text.endswith((".", ")"))
    assert option.since == "0.1"
    assert option.kind in options.PARSERS


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_each_default_is_a_value_of_its_type(option: Option) -> None:
    if option.kind.repeats:
        assert option.default == ()
    elif option.default is not None:
        parsed = option.parse(option.default)
        assert parsed == option.default
        assert type(parsed) is type(option.default)


def test_aliases_are_names_that_uwsgi_has() -> None:
    aliases = {alias for option in OPTIONS for alias in option.aliases if len(alias) > 1}
    assert aliases <= uwsgi.kinds().keys()


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("wsgi", "module"),
        ("file", "wsgi-file"),
        ("home", "virtualenv"),
        ("venv", "virtualenv"),
        ("pyhome", "virtualenv"),
        ("pp", "pythonpath"),
        ("workers", "processes"),
        ("p", "processes"),
        ("limit-post", "body-limit"),
    ],
)
def test_aliases(name: str, canonical: str) -> None:
    assert NAMES[name].name == canonical


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("processes", "0", "0 is out of range: between 1 and 1024"),
        ("processes", "1025", "1025 is out of range: between 1 and 1024"),
        ("queue", "0", "0 is out of range: between 1 and 1e+06"),
        ("start-timeout", "0", "0 is out of range: between 0.1 and 86400 s"),
        ("queue-timeout", "2d", "2d is out of range: between 0.001 and 86400 s"),
        ("body-limit", "9999999999g", "9999999999g is out of range: between 0 and 1.15292e+18 bytes"),
        ("spawn", "spoon", "'spoon' is none of fork, exec"),
    ],
)
def test_bounds_and_choices(name: str, value: str, reason: str) -> None:
    with pytest.raises(Mistake) as caught:
        NAMES[name].parse(value)
    assert caught.value.reason == reason


def test_a_choice_that_is_nearly_right_is_named() -> None:
    with pytest.raises(Mistake) as caught:
        NAMES["spawn"].parse("Fork")
    assert caught.value.hint == "did you mean 'fork'?"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("proceses", "processes"),
        ("process", "processes"),
        ("wsgi_file", "wsgi-file"),
        ("Module", "module"),
        ("domains", "domain"),
        ("queue_timeout", "queue-timeout"),
        ("zzz", None),
        ("q", None),
    ],
)
def test_the_nearest_name(name: str, meant: str | None) -> None:
    assert options.nearest(name) == meant


def test_numbers_are_users_too_in_toml() -> None:
    assert NAMES["uid"].parse(1000) == "1000"
    with pytest.raises(Mistake):
        NAMES["uid"].parse(True)


def test_what_repeats() -> None:
    assert {option.name for option in OPTIONS if option.kind.repeats} == {
        *("pythonpath", "env", "domain", "unenv", "import"),
        *("socket", "uwsgi-socket", "http-socket", "https-socket", "suwsgi-socket"),
        *("subscribe-to", "subscribe2", "router"),
        *(
            "log-field",
            "touch-reload",
            "touch-chain-reload",
            "fs-reload",
            "py-auto-reload-ignore",
            "master-fifo",
        ),
        *("request-timeout-path", "harakiri-path", "reserve", "bulkhead", "upstream"),
        *("post-fork-hook", "worker-ready-hook", "worker-exit-hook"),
        *(option.name for option in OPTIONS if option.kind in (Kind.COMMANDS, Kind.HOOKS)),
        *("reload-on-exception-type", "reload-on-exception-value", "reload-on-exception-repr"),
    }
    assert not Kind.MODULE.repeats
