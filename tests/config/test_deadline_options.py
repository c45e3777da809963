import json
from pathlib import Path
from typing import Any

import pytest

from emperor.config import ConfigError, load_vassal
from emperor.config.deadlines import ByPath, Deadlines
from emperor.config.problems import Mistake
from emperor.config.values import path_limit

LIMITS = ByPath(30.0, (("/export", 300.0), ("/export/now/", 5.0), ("/events", 0.0), ("/export", 200.0)))


@pytest.mark.parametrize(
    ("path", "seconds"),
    [
        (b"/", 30.0),
        (b"", 30.0),
        (b"/export", 200.0),  # of two with one path the last counts
        (b"/export/", 200.0),
        (b"/export/all", 200.0),
        (b"/exports", 30.0),  # whole segments
        (b"/export/now", 5.0),  # the longest
        (b"/export/now/x", 5.0),
        (b"/export/nowhere", 200.0),
        (b"/events/1", 0.0),
        (b"/a/export", 30.0),
        (b"/\xff", 30.0),
    ],
)
def test_the_longest_prefix_counts(path: bytes, seconds: float) -> None:
    assert LIMITS.of(path) == seconds


def test_the_shortest_and_the_longest_limit_pass_over_none() -> None:
    assert (LIMITS.least_s, LIMITS.most_s) == (5.0, 200.0)
    assert (ByPath(0.0, ()).least_s, ByPath(0.0, ()).most_s) == (0.0, 0.0)
    assert ByPath(0.0, (("/a", 3.0),)).least_s == 3.0


def test_a_limit_for_everything_below_the_root() -> None:
    assert ByPath(1.0, (("/", 2.0),)).of(b"/any") == 2.0


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("/export 5m", ("/export", 300.0)),
        (("/export", "5m"), ("/export", 300.0)),
        (("/export/", 5), ("/export", 5.0)),
        ("/ 0", ("/", 0.0)),
    ],
)
def test_what_a_line_says(value: Any, found: tuple[str, float]) -> None:
    assert path_limit(value) == found


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "needs a value"),
        ("", "needs a value"),
        ("/export", "is not a path and a duration"),
        ("export 5m", "is not the path of a request"),
        ("/export?x=1 5m", "is not the beginning of a path"),
        ("/a b 10", "is not the beginning of a path"),
        ("/export soon", "is not a duration"),
        ("/export 2d", "at most 86400 s"),
        (("/export", True), "is not a duration"),
        (5, "is not text"),
    ],
)
def test_what_is_no_limit(value: Any, said: str) -> None:
    with pytest.raises(Mistake) as caught:
        path_limit(value)
    assert said in str(caught.value.reason)


INI = """\
[uwsgi]
module = a
harakiri = 30
harakiri-verbose = true
harakiri-path = /export 5m
harakiri-path = /events 0
request-timeout-path = /export 6m
harakiri-graceful-timeout = 2
harakiri-graceful-signal = 12
poison-deaths = 3
"""
TOML = """\
module = "a"
harakiri = "30s"
harakiri-verbose = true
request-timeout-path = ["/export 6m"]
harakiri-graceful-timeout = 2
harakiri-graceful-signal = 12
poison-deaths = 3
[harakiri-path]
"/export" = "5m"
"/events" = 0
"""
YAML = """\
uwsgi:
  module: a
  harakiri: 30
  harakiri-verbose: true
  harakiri-path: {/export: 5m, /events: 0}
  request-timeout-path: /export 6m
  harakiri-graceful-timeout: 2
  harakiri-graceful-signal: 12
  poison-deaths: 3
"""
WHOLE = Deadlines(
    harakiri_s=30.0,
    harakiri_paths=(("/export", 300.0), ("/events", 0.0)),
    verbose=True,
    grace_s=2.0,
    signal=12,
    request_paths=(("/export", 360.0),),
    poison_deaths=3,
)


@pytest.mark.parametrize(("content", "name"), [(INI, "a.ini"), (TOML, "a.toml"), (YAML, "a.yaml")])
def test_all_formats_say_the_same(tmp_path: Path, content: str, name: str) -> None:
    (tmp_path / name).write_text(content)
    config = load_vassal(tmp_path / name, directory=tmp_path)
    assert config.deadlines == WHOLE
    assert config.warnings == ()


def test_what_is_wrong_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.ini").write_text("[uwsgi]\nmodule = a\nharakiri-path = export 5m\n")
    with pytest.raises(ConfigError) as caught:
        load_vassal(tmp_path / "a.ini", directory=tmp_path)
    assert "a.ini:3: harakiri-path: 'export' is not the path of a request" in str(caught.value)


def test_what_the_page_alone_can_decide() -> None:
    """The longest limit, if there is one for every request."""
    assert Deadlines(harakiri_s=30.0, harakiri_paths=(("/export", 300.0),)).backstop_s == 300.0
    assert Deadlines(harakiri_s=30.0, harakiri_paths=(("/events", 0.0),)).backstop_s == 0.0
    assert Deadlines(harakiri_paths=(("/export", 300.0),)).backstop_s == 0.0
    assert Deadlines().backstop_s == 0.0


def test_it_travels() -> None:
    assert Deadlines.from_json(json.loads(json.dumps(WHOLE.to_json()))) == WHOLE
    assert Deadlines.from_json({"of": "another version"}) == Deadlines()


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "an object expected"),
        ({"harakiri_s": -1}, "deadlines.harakiri_s: 0 or more"),
        ({"harakiri_s": True}, "deadlines.harakiri_s"),
        ({"harakiri_paths": [["/a"]]}, "deadlines.harakiri_paths: a list of pairs"),
        ({"verbose": 1}, "deadlines.verbose: bool expected"),
        ({"signal": "TERM"}, "deadlines.signal: int expected"),
    ],
)
def test_what_another_process_may_not_say(document: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Deadlines.from_json(document)
