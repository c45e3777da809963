"""`master-fifo`: letters by a FIFO that is made, opened and removed as the tenant."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emperor.config.reloading import Reloading
from emperor.supervisor.children import Children
from emperor.supervisor.fifos import ANSWERS, LETTERS, Fifos
from emperor.supervisor.loop import Loop
from emperor.supervisor.tenant import Tenants

from .test_supervisor import reading


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text: str) -> None:
        self.lines.append(text)

    warning = error = info


class Stage:
    def __init__(self, directory: Path) -> None:
        self.loop = Loop()
        self.log = Log()
        self.children = Children(self.loop, self.log, 5.0)
        self.tenants = Tenants(self.loop, self.children)
        self.letters: list[tuple[str, str, str]] = []
        self.fifos = Fifos(self.loop, self.tenants, self.log, lambda *said: self.letters.append(said))
        self.paths = tuple(str(directory / name) for name in ("one", "two"))

    def want(self) -> None:
        self.fifos.want("a.ini", reading("a.ini", reloading=Reloading(fifos=self.paths)))

    def until(self, condition: Callable[[], object], deadline_s: float = 10.0) -> None:
        end = self.loop.now() + deadline_s
        while not condition():
            assert self.loop.now() < end, (self.letters, self.log.lines)
            self.loop.step(0.02)

    def say(self, path: str, letters: str) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        os.write(fd, letters.encode())
        os.close(fd)

    def close(self) -> None:
        self.fifos.close()
        self.tenants.close()
        self.children.close()
        self.loop.close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.close()


def is_fifo(path: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


def can_write(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def test_letters_are_obeyed_answered_or_unknown(stage: Stage) -> None:
    stage.want()
    stage.until(lambda: can_write(stage.paths[0]))
    assert os.stat(stage.paths[0]).st_mode & 0o777 == 0o600
    stage.say(stage.paths[0], "r\ncps")
    stage.until(lambda: len(stage.letters) == 4)
    assert [(deed, letter) for _, deed, letter in stage.letters] == [
        ("reload", "r"),
        ("chain", "c"),
        ("pause", "p"),
        ("stats", "s"),
    ]
    stage.say(stage.paths[0], "q?")
    stage.until(lambda: len(stage.log.lines) == 2)
    assert "an app goes when its file does" in stage.log.lines[0]
    assert "there is no such letter" in stage.log.lines[1]


def test_a_flood_of_letters_is_taken_a_few_at_a_time(stage: Stage) -> None:
    stage.want()
    stage.until(lambda: can_write(stage.paths[0]))
    stage.say(stage.paths[0], "s" * 1000)
    stage.until(lambda: stage.letters)
    for _ in range(5):
        stage.loop.step(0)
    assert len(stage.letters) == 16


def test_a_digit_switches_to_another_and_what_is_no_slot_is_said(stage: Stage) -> None:
    stage.want()
    stage.until(lambda: can_write(stage.paths[0]))
    stage.say(stage.paths[0], "15")
    stage.until(lambda: can_write(stage.paths[1]))
    assert any("5: there is no such slot; there are 2" in line for line in stage.log.lines)
    assert not can_write(stage.paths[0])
    stage.say(stage.paths[1], "r")
    stage.until(lambda: stage.letters)


def test_what_is_no_fifo_is_left_alone_and_said(stage: Stage) -> None:
    Path(stage.paths[0]).write_text("mine")
    stage.want()
    stage.until(lambda: stage.fifos.troubles)
    assert "master-fifo" in stage.fifos.troubles["a"] and stage.paths[0] in stage.fifos.troubles["a"]
    assert Path(stage.paths[0]).read_text() == "mine"


def test_it_goes_with_the_vassal_and_stays_for_a_next_emperor(stage: Stage) -> None:
    stage.want()
    stage.until(lambda: can_write(stage.paths[0]))
    stage.fifos.close()
    assert is_fifo(stage.paths[0])
    stage.want()
    stage.until(lambda: can_write(stage.paths[0]))
    stage.fifos.want("a.ini", None)
    stage.until(lambda: not os.path.exists(stage.paths[0]))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has tenants")
def test_it_is_made_as_the_tenant(stage: Stage, tmp_path: Path) -> None:
    for directory in (tmp_path, *tmp_path.parents):
        if str(directory).startswith("/tmp/"):
            os.chmod(directory, 0o755)
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    theirs, roots = str(home / "fifo"), str(tmp_path / "fifo")
    for file, path in (("a.ini", theirs), ("b.ini", roots)):
        stage.fifos.want(file, reading(file, uid=65534, gid=65534, reloading=Reloading(fifos=(path,))))
    stage.until(lambda: can_write(theirs) and stage.fifos.troubles)
    assert os.stat(theirs).st_uid == 65534
    assert not os.path.exists(roots) and "as uid 65534" in stage.fifos.troubles["b"]


def test_every_letter_of_uwsgis_has_an_answer() -> None:
    assert set("0123456789+-BcCEflLpPqQrRsSwW") == {*LETTERS, *ANSWERS}
    assert not set(LETTERS) & set(ANSWERS)
