"""Places: what a directory or a pattern holds, what its files are called, and in which order."""

import os
from pathlib import Path

import pytest

from emperor.monitors.links import trail
from emperor.monitors.places import Place, PlaceError, Places, look


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


@pytest.mark.parametrize(
    ("pattern", "path", "name"),
    [
        ("/srv/*/app.ini", "/srv/blog/app.ini", "blog"),
        ("/srv/*/conf/app.ini", "/srv/blog/conf/app.ini", "blog"),
        ("/srv/*/*.ini", "/srv/blog/web.ini", "web"),
        ("/srv/*.ini", "/srv/blog.ini", "blog"),
        ("/srv/app-*/x.toml", "/srv/app-1.2/x.toml", "app-1.2"),
        ("/srv/blog.ini", "/srv/blog.ini", "blog"),
        ("/srv/[ab]?/app.ini", "/srv/a1/app.ini", "a1"),
    ],
)
def test_a_pattern_s_vassal_is_called_by_what_the_last_wildcard_stands_for(
    pattern: str, path: str, name: str
) -> None:
    place = Place(pattern, is_pattern=True)
    assert place.holds(path)
    assert place.name(path) == name


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/srv/*/app.ini", "/srv/a/b/app.ini"),
        ("/srv/*/app.ini", "/srv/.git/app.ini"),
        ("/srv/*/app.ini", "/srv/a/other.ini"),
        ("/srv/*.ini", "/srv/.hidden.ini"),
    ],
)
def test_what_a_pattern_does_not_hold(pattern: str, path: str) -> None:
    assert not Place(pattern, is_pattern=True).holds(path)


def test_a_directory_s_name_that_cannot_be_a_vassal_s_is_an_error() -> None:
    with pytest.raises(ValueError, match="'my app' cannot be the name of a vassal"):
        Place("/srv/*/app.ini", is_pattern=True).name("/srv/my app/app.ini")


def test_what_is_there_is_found_and_only_that(tmp_path: Path) -> None:
    touch(
        tmp_path, "a/app.ini", "b/app.ini", "b/other.ini", "c/none", ".git/app.ini", "app.ini", "d/app.ini/x"
    )
    found = look(Place(f"{tmp_path}/*/app.ini", is_pattern=True))
    assert sorted(found.files) == [f"{tmp_path}/{each}/app.ini" for each in ("a", "b", "d")]
    assert {str(tmp_path), f"{tmp_path}/a", f"{tmp_path}/c"} <= set(found.directories)
    assert found.trouble == ""


def test_a_directory_that_cannot_be_listed_is_a_trouble_above_a_wildcard_and_nothing_below(
    tmp_path: Path,
) -> None:
    assert "cannot be listed" in look(Place(f"{tmp_path}/none")).trouble
    assert "none cannot be listed" in look(Place(f"{tmp_path}/none/*/app.ini", is_pattern=True)).trouble
    assert "there is no directory" in look(Place(f"{tmp_path}/none/app.ini", is_pattern=True)).trouble
    touch(tmp_path, "a/app.ini", "b")
    found = look(Place(f"{tmp_path}/*/app.ini", is_pattern=True))
    assert (found.files, found.trouble) == ([f"{tmp_path}/a/app.ini"], "")


def test_one_directory_s_files_are_known_by_their_names_several_by_their_paths(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    alone = Places.named([f"{tmp_path}/one"])
    assert alone.key(f"{tmp_path}/one/a.ini") == "a.ini"
    assert alone.path("a.ini") == f"{tmp_path}/one/a.ini"
    assert alone.directory("a.ini") == f"{tmp_path}/one"
    both = Places.named([f"{tmp_path}/two", f"{tmp_path}/one", f"{tmp_path}/*/x.ini"])
    first, second = f"{tmp_path}/two/b.ini", f"{tmp_path}/one/a.ini"
    assert both.key(first) == both.path(first) == first
    assert sorted([second, first], key=both.rank) == [first, second], "the place named first comes first"
    assert both.place(f"{tmp_path}/one/x.ini") == both.places[1], "the first that holds it"


def test_a_file_of_the_only_directory_before_is_still_known(tmp_path: Path) -> None:
    """What an emperor of two directories left is read by one of one."""
    places = Places([Place(str(tmp_path))])
    other = "/elsewhere/b.ini"
    assert places.key(other) == other == places.path(other)
    assert places.name(other) == "b" and places.place(other) is None


def test_what_cannot_be_a_place(tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match="there is nothing to serve"):
        Places.named([])
    with pytest.raises(PlaceError, match="there is no /nowhere"):
        Places.named(["/nowhere/at/all"])
    touch(tmp_path, "a/app.ini", "b/app.ini")
    with pytest.raises(PlaceError, match="in quotes"):
        Places.named([f"{tmp_path}/a/app.ini", f"{tmp_path}/b/app.ini"])


def test_the_trail_of_a_path_names_every_link_on_the_way(tmp_path: Path) -> None:
    touch(tmp_path, "data.1/app.ini")
    (tmp_path / "data").symlink_to("data.1")
    (tmp_path / "v").mkdir()
    (tmp_path / "v/a.ini").symlink_to("../data/./app.ini")
    found = trail(f"{tmp_path}/v/a.ini")
    assert found.links == (f"{tmp_path}/v/a.ini", f"{tmp_path}/data")
    assert found.end == f"{tmp_path}/data.1/app.ini" == os.path.realpath(tmp_path / "v/a.ini")
    (tmp_path / "data").unlink()
    assert trail(f"{tmp_path}/v/a.ini").end == f"{tmp_path}/data/app.ini", "where it would be"


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert len(trail(f"{tmp_path}/a").links) == 40
