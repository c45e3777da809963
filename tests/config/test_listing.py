import pytest

from emperor.config import is_vassal_file, list_vassals, route_names, vassal_name


@pytest.mark.parametrize(
    "name",
    [
        "blog.ini",
        "blog.toml",
        "blog.example.com.ini",
        "a_b-c.toml",
        "weird name.ini",
        "a.yaml",
        "a.yml",
        "a.json",
        "a.js",
    ],
)
def test_files_that_are_meant_to_be_vassals(name: str) -> None:
    assert is_vassal_file(name)


@pytest.mark.parametrize(
    "name",
    [
        *("blog.ini~", "#blog.ini#", ".#blog.ini", ".blog.ini", ".blog.ini.swp", ".ini", ".blog.ini.x8Tq1z"),
        *("blog.ini.tmp", "blog.ini.bak", "blog.ini.part", "blog.ini.swp", "blog.ini.orig", "4913"),
        *("blog", "blog.txt", "blog.xml", "blog.py", "blog.INI", "ini", "blog.", ""),
    ],
)
def test_files_that_are_not(name: str) -> None:
    assert not is_vassal_file(name)


@pytest.mark.parametrize(
    ("file_name", "name"),
    [("blog.ini", "blog"), ("blog.example.com.toml", "blog.example.com"), ("a" * 64 + ".ini", "a" * 64)],
)
def test_names(file_name: str, name: str) -> None:
    assert vassal_name(file_name) == name


@pytest.mark.parametrize(
    ("file_name", "reason"),
    [
        ("a" * 65 + ".ini", "the name has 65 characters: at most 64 before the suffix"),
        ("my blog.ini", "'my blog' cannot be the name of a vassal: letters, digits, '.', '_' and '-' only"),
        ("größe.ini", "'größe' cannot be the name of a vassal"),
        ("a\nb.ini", "'a\\nb' cannot be the name of a vassal"),
        ("a\udcff.ini", "'a\\udcff' cannot be the name of a vassal"),
        ("a:b.ini", "'a:b' cannot be the name of a vassal"),
    ],
)
def test_names_that_cannot_be(file_name: str, reason: str) -> None:
    with pytest.raises(ValueError, match="name") as caught:
        vassal_name(file_name)
    assert str(caught.value).startswith(reason)


def test_a_directory_is_sorted_out_by_file_name() -> None:
    listing = list_vassals(
        ["shop.toml", "blog.toml", "README", "blog.ini", "my blog.ini", ".hidden.ini", "blog.ini~"],
        "/etc/vassals",
    )
    assert listing.vassals == {"blog": "blog.ini", "shop": "shop.toml"}
    assert list(listing.vassals) == ["blog", "shop"]
    assert [str(problem) for problem in listing.refused] == [
        "/etc/vassals/blog.toml: /etc/vassals/blog.ini is the vassal 'blog' already (rename or remove one)",
        "/etc/vassals/my blog.ini: 'my blog' cannot be the name of a vassal: letters, digits,"
        " '.', '_' and '-'"
        " only (rename the file)",
    ]


@pytest.mark.parametrize(
    ("name", "domains", "routes"),
    [
        ("blog", [], ("blog.localhost",)),
        ("Blog.Example.com", [], ("blog.example.com", "blog.example.com.localhost")),
        ("blog.example.com", ["shop.example.com"], ("shop.example.com", "blog.example.com.localhost")),
        ("blog", ["a.com", "*.a.com", "a.com/x", "a.com"], ("a.com", "*.a.com", "a.com/x", "blog.localhost")),
        ("app-1.2", [], ("app-1.2.localhost",)),
        ("blog", ["blog.localhost"], ("blog.localhost",)),
    ],
)
def test_routes(name: str, domains: list[str], routes: tuple[str, ...]) -> None:
    assert route_names(name, domains) == routes
