"""`auto-reload` by place."""

import pytest

from emperor.config.problems import Mistake
from emperor.config.reloading import auto_reload
from emperor.supervisor.edits import Modes

PLACES = ("/etc/vassals", "/srv/*/app.ini")


@pytest.mark.parametrize(
    ("said", "first", "second"),
    [
        ((), "on", "on"),
        (("off",), "off", "off"),
        (("off", "/etc/vassals=on"), "on", "off"),
        (("/srv/*/app.ini=validate-only",), "on", "validate-only"),
        (("/etc/vassals=off", "on"), "on", "on"),
    ],
)
def test_the_last_that_applies_counts(said: tuple[str, ...], first: str, second: str) -> None:
    modes = Modes(said, PLACES)
    assert (modes.of(PLACES[0]), modes.of(PLACES[1]), modes.warnings) == (first, second, [])


def test_a_place_that_is_not_served_is_said() -> None:
    (warning,) = Modes(("/etc/vasals=off",), PLACES).warnings
    assert "/etc/vasals" in warning and "/etc/vassals" in warning


@pytest.mark.parametrize(
    ("text", "typed"),
    [("off", "off"), ("false", "off"), ("true", "on"), ("/a=b=validate-only", "/a=b=validate-only")],
)
def test_words(text: str, typed: str) -> None:
    assert auto_reload(text) == typed


@pytest.mark.parametrize("text", ["never", "vassals=off", "/etc/vassals="])
def test_wrong_words(text: str) -> None:
    with pytest.raises(Mistake):
        auto_reload(text)
