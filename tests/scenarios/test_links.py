"""A vassal's file that is a symbolic link: it reloads when the link, any link on the way, or the target changes."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from .harness import Fleet, wait_for
from .harness.fleet import APPS

HELLO = APPS / "hello.py"


def config(path: Path, greeting: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[uwsgi]\nwsgi-file = {HELLO}\nenv = GREETING={greeting}\n")
    return path


def swap(link: Path, target: str) -> None:
    """As Kubernetes and deployment tools do: a new link is renamed over the old one."""
    new = link.with_name(link.name + ".new")
    new.symlink_to(target)
    new.rename(link)


class Linked:
    """One vassal whose file is reached over links outside of the watched directory, and what is done to it."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self.place = fleet.root / "elsewhere" / name
        self.file = fleet.directory / f"{name}.ini"

    def prepare(self) -> None:
        config(self.place / "one.ini", "one")
        self.file.symlink_to(self.place / "one.ini")

    def change(self) -> None:
        raise NotImplementedError


class Retargeted(Linked):
    def change(self) -> None:
        swap(self.file, str(config(self.place / "two.ini", "two")))


class Edited(Linked):
    def change(self) -> None:
        config(self.place / "one.ini", "two")


class Replaced(Linked):
    def change(self) -> None:
        config(self.place / ".tmp", "two").rename(self.place / "one.ini")


class Chained(Linked):
    """file → current.ini → one.ini: the link in the middle is set anew."""

    def prepare(self) -> None:
        config(self.place / "one.ini", "one")
        (self.place / "current.ini").symlink_to("one.ini")
        self.file.symlink_to(self.place / "current.ini")

    def change(self) -> None:
        config(self.place / "two.ini", "two")
        swap(self.place / "current.ini", "two.ini")


class ConfigMap(Linked):
    """file → ..data/app.ini, ..data → ..2024_01/: the directory is swapped, as the kubelet does."""

    def prepare(self) -> None:
        config(self.place / "..2024_01/app.ini", "one")
        (self.place / "..data").symlink_to("..2024_01")
        self.file.symlink_to(self.place / "..data/app.ini")

    def change(self) -> None:
        config(self.place / "..2024_02/app.ini", "two")
        swap(self.place / "..data", "..2024_02")


class Dangling(Linked):
    """The target appears only later."""

    def prepare(self) -> None:
        self.place.mkdir(parents=True)
        self.file.symlink_to(self.place / "one.ini")

    def change(self) -> None:
        config(self.place / "one.ini", "two")


WAYS = {each.__name__.lower(): each for each in (Retargeted, Edited, Replaced, Chained, ConfigMap, Dangling)}


def test_a_change_of_a_link_or_its_target_is_a_reload(fleet: Fleet) -> None:
    ways = {name: way(fleet, name) for name, way in WAYS.items()}
    for way in ways.values():
        way.prepare()
    fleet.start(ready=False)
    fleet.wait_ready(*(name for name in ways if name != "dangling"))
    before = {name: fleet.get(name).text for name in ways if name != "dangling"}
    assert set(before.values()) == {"one"}
    for way in ways.values():
        way.change()
    for name in ways:
        wait_for(lambda name=name: fleet.get(name).text == "two", 10, fleet.summary)
    generations = {name: fleet.vassal_status(name)["generation"] for name in ways}
    assert generations == {**dict.fromkeys(ways, 2), "dangling": 1}, "one change is one reload"


def test_the_directory_of_the_vassals_may_be_a_link_that_is_set_anew(fleet: Fleet) -> None:
    for release in ("one", "two"):
        config(fleet.root / "releases" / release / "a.ini", release)
    fleet.directory.rmdir()
    fleet.directory.symlink_to("releases/one")
    fleet.start(ready=False)
    fleet.wait_ready("a")
    assert fleet.get("a").text == "one"
    swap(fleet.directory, "releases/two")
    wait_for(lambda: fleet.get("a").text == "two", 10, fleet.summary)
    status = fleet.cli("status", "--run-dir", fleet.run_dir)
    assert str(fleet.directory) in status.stdout


@pytest.mark.parametrize(
    "take", [os.unlink, lambda path: swap(Path(path), "nowhere")], ids=["gone", "leads nowhere"]
)
def test_a_link_without_a_file_is_a_vassal_that_is_gone(fleet: Fleet, take: Callable[[Path], None]) -> None:
    linked = Edited(fleet, "a")
    linked.prepare()
    fleet.start()
    take(linked.file)
    wait_for(lambda: not fleet.vassal_status("a"), 10, fleet.summary)
