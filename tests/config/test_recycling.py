"""The options of recycling: as uWSGI's files have them, and what they come to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from emperor.config.loading import examine, load_vassal
from emperor.config.recycling import NEVER, Recycling

MB = 1024 * 1024
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "recycling.md"


def recycling(tmp_path: Path, *lines: str) -> Recycling:
    path = tmp_path / "a.ini"
    path.write_text("\n".join(["[uwsgi]", "module = a", *lines]) + "\n")
    return load_vassal(path, directory=tmp_path).recycling


def test_nothing_is_recycled_unless_asked_for(tmp_path: Path) -> None:
    assert recycling(tmp_path) == NEVER
    assert not NEVER.measures_memory and not NEVER.minds_exceptions


def test_a_delta_is_a_tenth_unless_given(tmp_path: Path) -> None:
    found = recycling(tmp_path, "max-requests = 1000", "max-worker-lifetime = 1h")
    assert (found.max_requests_delta, found.max_lifetime_delta_s) == (100, 360.0)
    found = recycling(
        tmp_path,
        *("max-requests = 1000", "max-worker-lifetime = 3600"),
        *("max-requests-delta = 0", "max-worker-lifetime-delta = 0"),
    )
    assert (found.max_requests_delta, found.max_lifetime_delta_s) == (0, 0.0)


def test_memory_is_in_megabytes_as_uwsgi_has_it_or_with_a_unit(tmp_path: Path) -> None:
    found = recycling(
        tmp_path,
        "reload-on-rss = 400",
        "reload-on-as = 1g",
        "evil-reload-on-rss = 512m",
        "evil-reload-on-as = 2",
    )
    assert (found.rss_bytes, found.as_bytes) == (400 * MB, 1024 * MB)
    assert (found.evil_rss_bytes, found.evil_as_bytes) == (512 * MB, 2 * MB)
    assert found.measures_memory


@pytest.mark.parametrize("value", ["-1", "lots", "1.5", "400 MB"])
def test_what_is_no_size_is_named_with_its_line(tmp_path: Path, value: str) -> None:
    path = tmp_path / "a.ini"
    path.write_text(f"[uwsgi]\nmodule = a\nreload-on-rss = {value}\n")
    (problem,) = examine(path, directory=tmp_path).problems
    assert str(problem).startswith(f"{path}:3: reload-on-rss: ")


def test_exceptions_accumulate(tmp_path: Path) -> None:
    found = recycling(
        tmp_path,
        *("reload-on-exception-type = A", "reload-on-exception-type = B"),
        *("reload-on-exception-value = no", "reload-on-exception-repr = A: no"),
    )
    assert found.exception_types == ("A", "B") and not found.on_exception
    assert (found.exception_values, found.exception_reprs) == (("no",), ("A: no",))
    assert found.minds_exceptions and recycling(tmp_path, "reload-on-exception").on_exception


def test_it_travels_as_json(tmp_path: Path) -> None:
    found = recycling(tmp_path, "max-requests = 9", "reload-on-exception-type = A", "reload-on-rss = 7")
    assert Recycling.from_json(found.to_json()) == found
    assert Recycling.from_json({"of a later version": 1}) == NEVER


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "recycling: an object expected, not list"),
        ({"max_requests": "3"}, "recycling.max_requests: int expected, not str"),
        ({"max_requests": True}, "recycling.max_requests: int expected, not bool"),
        ({"rss_bytes": -1}, "recycling.rss_bytes: 0 or more expected"),
        ({"mercy_s": float("inf")}, "recycling.mercy_s: 0 or more expected"),
        ({"exception_types": [1]}, "recycling.exception_types: a list of strings expected"),
    ],
)
def test_what_makes_no_sense_is_named(document: object, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Recycling.from_json(document)


def test_the_guides_file_is_one(tmp_path: Path) -> None:
    (text,) = re.findall(r"```ini\n(.*?)```", GUIDE.read_text(), re.S)
    path = tmp_path / "shop.ini"
    path.write_text(text)
    found = load_vassal(path, directory=tmp_path)
    assert not found.warnings
    assert (found.recycling.max_requests, found.recycling.rss_bytes) == (5000, 400 * MB)
