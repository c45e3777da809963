"""Formats and places of an access log."""

import json

import pytest

from emperor.config import accesslog
from emperor.config.accesslog import (
    JSON_KEYS,
    LITERAL,
    NAMED,
    OFF,
    PACKET,
    STDOUT,
    TEXT,
    VARIABLES,
    AccessLog,
    check_format,
    unknown,
)
from emperor.config.problems import Mistake


def test_a_template_is_its_pieces() -> None:
    pieces = AccessLog(format="a %(uri) %(var.HTTP_X) %(status)%").pieces()
    assert [(kind, text) for kind, text, _ in pieces] == [
        (LITERAL, b"a "),
        (PACKET, b"REQUEST_URI"),
        (LITERAL, b" "),
        (PACKET, b"HTTP_X"),
        (LITERAL, b" "),
        (VARIABLES["status"].kind, b""),
        (LITERAL, b"%"),
        (LITERAL, b"\n"),
    ]


@pytest.mark.parametrize("name", [*NAMED, "json", *(f"%({name})" for name in VARIABLES), "", "plain %% text"])
def test_every_known_format_is_accepted(name: str) -> None:
    assert check_format(name) == name


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("%(statsu)", "did you mean %(status)?"),
        ("%(REMOTE_ADDR)", "a variable of the request is written %(var.REMOTE_ADDR)"),
        ("%(metric.x)", "metrics are in the statistics"),
        ("%(zzzzzz)", "there are %(var.NAME) and uri"),
        ("%(var.)", "did you mean %(vars)?"),
    ],
)
def test_a_name_that_is_no_variable_is_written_as_uwsgi_writes_what_no_app_has_set(
    template: str, says: str
) -> None:
    ((name, hint),) = unknown(check_format(template))
    assert template == f"%({name})" and says in hint
    assert AccessLog(format=template).pieces()[0] == (LITERAL, b"-", TEXT)
    as_json = b"".join(text for _, text, _ in AccessLog(format="json", fields=(("x", template),)).pieces())
    assert as_json.endswith(b'"x":null}\n')


def test_what_is_known_is_not_unknown() -> None:
    assert not any(
        unknown(template) for template in (*NAMED, *NAMED.values(), "json", "%(var.HTTP_X) %(gen)")
    )


def test_a_line_is_one_line() -> None:
    with pytest.raises(Mistake, match="one line"):
        check_format("a\nb")


def test_json_has_its_keys_in_their_order() -> None:
    pieces = AccessLog(
        format="json", fields=(("tenant", "%(var.HTTP_X_TENANT)"), ('a"b', 'x "%(uri)"'))
    ).pieces()
    text = b"".join(
        literal if kind == LITERAL else (b'"v"' if how == 2 else b"v") for kind, literal, how in pieces
    )
    assert json.loads(text) == {**{key: "v" for key, _ in JSON_KEYS}, "tenant": "v", 'a"b': 'x "v"'}
    assert text.endswith(b"}\n")


def test_what_travels_comes_back() -> None:
    log = AccessLog(
        place="/x", format="json", fields=(("a", "%(uri)"),), everything=False, slow_ms=5, forwarded=True
    )
    assert AccessLog.from_json(json.loads(json.dumps(log.to_json()))) == log
    assert AccessLog.from_json({"future": 1}) == AccessLog()
    for wrong in ({"slow_ms": "5"}, {"fields": [["a"]]}, {"zero": 1}, []):
        with pytest.raises(ValueError, match="access log: "):
            AccessLog.from_json(wrong)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("off", OFF),
        ("/dev/null", OFF),
        ("-", STDOUT),
        ("/dev/stdout", STDOUT),
        ("x.log", "/srv/x.log"),
        ("on", STDOUT),
    ],
)
def test_places(text: str, place: str) -> None:
    assert accesslog.place_of(text, lambda path: f"/srv/{path}") == place


@pytest.mark.parametrize(
    ("logger", "place"),
    [
        ("file:/x/a.log", "/x/a.log"),
        ("file:logfile=/x/a.log,maxsize=1000", "/x/a.log"),
        ("stdio:", "-"),
        ("name file:/x", "/x"),
        ("file:/with space/x", "/with space/x"),
    ],
)
def test_uwsgis_loggers(logger: str, place: str) -> None:
    assert accesslog.place_of_logger(logger) == place


def test_a_logger_that_is_not_there() -> None:
    with pytest.raises(Mistake, match="'syslog' is not there"):
        accesslog.place_of_logger("syslog:app")
    with pytest.raises(Mistake, match="is no file"):
        accesslog.place_of("/var/log/", str)


def test_the_guide_tells_of_every_variable_and_key() -> None:
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "guides" / "access-log.md").read_text()
    for name in VARIABLES:
        assert f"`%({name})`" in page, name
    for key, _ in JSON_KEYS:
        assert f"`{key}`" in page, key
