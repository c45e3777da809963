"""Touched files and changed code: the first at once, a burst once more, the last counts."""

from pathlib import Path

from emperor.supervisor.loop import Loop
from emperor.supervisor.triggers import GAP_S, Triggers
from tests.monitors.test_directory import Told

from .test_supervisor import reading


def run(loop: Loop, seconds: float) -> None:
    end = loop.now() + seconds
    while loop.now() < end:
        loop.step(0.01)


def test_a_burst_is_one_at_once_and_one_behind_it() -> None:
    loop = Loop()
    reloads: list[tuple[str, str]] = []
    triggers = Triggers(loop, Told(), lambda file, by, rolling: reloads.append((file, by)))
    for number in range(100):
        triggers.fire("a.ini", f"{number}")
    triggers.fire("b.ini", "other")
    assert reloads == [("a.ini", "0"), ("b.ini", "other")]
    run(loop, 3 * GAP_S)
    assert reloads == [("a.ini", "0"), ("b.ini", "other"), ("a.ini", "99")]
    triggers.fire("a.ini", "later")
    assert reloads[-1] == ("a.ini", "later")
    triggers.close()
    loop.close()


def test_what_the_reading_names_counts_and_nothing_once_it_is_gone(tmp_path: Path) -> None:
    from emperor.config.reloading import Reloading

    path = tmp_path / "reload"
    loop = Loop()
    reloads: list[tuple[str, str]] = []
    triggers = Triggers(loop, Told(), lambda file, by, rolling: reloads.append((file, by)))
    triggers.want("a.ini", reading("a.ini", reloading=Reloading(touch=(str(path),))))
    path.touch()
    end = loop.now() + 5
    while not reloads and loop.now() < end:
        loop.step(0.02)
    assert reloads == [("a.ini", f"touch-reload {path}")]
    triggers.want("a.ini", None)
    path.write_text("again")
    run(loop, 0.3)
    assert len(reloads) == 1
    triggers.close()
    loop.close()
