"""Who is paused, for a next emperor."""

from pathlib import Path

from emperor.supervisor import pauses


def test_what_is_written_is_read_and_nothing_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "paused.json"
    pauses.write(str(path), {"blog": "hold", "shop": "refuse"})
    assert pauses.read(str(path)) == {"blog": "hold", "shop": "refuse"}
    assert path.stat().st_mode & 0o777 == 0o600
    pauses.write(str(path), {})
    pauses.write(str(path), {})
    assert list(tmp_path.iterdir()) == [] and pauses.read(str(path)) == {}


def test_what_makes_no_sense_pauses_nobody(tmp_path: Path) -> None:
    path = tmp_path / "paused.json"
    for text in ("", "[1]", '{"a": 1, "b": "stop", "c": "hold"}', "\xff"):
        path.write_text(text, "latin-1")
        assert pauses.read(str(path)) in ({}, {"c": "hold"})
