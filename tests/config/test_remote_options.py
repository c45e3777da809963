"""`router` and `remote` in a vassal's file."""

from pathlib import Path

import pytest

from emperor.config import ConfigError, load_vassal
from emperor.config.loading import VassalConfig


def load(tmp_path: Path, *lines: str) -> VassalConfig:
    (tmp_path / "app.py").write_text("application = None\n")
    path = tmp_path / "shop.ini"
    path.write_text("\n".join(["[vassal]", *lines, ""]))
    return load_vassal(path, directory=tmp_path)


def test_routers_on_other_hosts(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "wsgi-file = app.py",
        "router = tcp://A:5555",
        "router = tcp://b:5555",
        "router = tcp://a:5555",
    )
    assert config.routers == ("tcp://a:5555", "tcp://b:5555")
    assert not config.remote


def test_the_weight_of_this_host_there(tmp_path: Path) -> None:
    config = load(tmp_path, "wsgi-file = app.py", "router = tcp://A:5555  weight=4")
    assert config.routers == ("tcp://a:5555 weight=4",)


def test_a_router_has_one_weight(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"shop\.ini:3: router: says two weights of tcp://a:5555"):
        load(tmp_path, "wsgi-file = app.py", "router = tcp://a:5555", "router = tcp://a:5555 weight=4")


def test_plain_addresses_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"shop\.ini:3: router: 'a:5555' is no address of a router \(write tcp://"
    ):
        load(tmp_path, "wsgi-file = app.py", "router = a:5555")


def test_an_app_that_is_elsewhere(tmp_path: Path) -> None:
    config = load(tmp_path, "remote = true")
    assert config.remote and config.processes == 0 and config.app.module is None
    assert [problem.key for problem in load(tmp_path, "remote = true", "processes = 4").warnings] == [
        "processes"
    ]


@pytest.mark.parametrize("line", ["wsgi-file = app.py", "upstream = http://a:80"])
def test_it_is_one_or_the_other(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigError, match="remote: excludes"):
        load(tmp_path, "remote = true", line)
