"""`canary`: a next generation that gets a part of the requests before it gets all."""

from typing import Any

import pytest

from emperor.config.reloading import Reloading
from emperor.supervisor.actions import Say
from emperor.supervisor.telling import Told, orders
from emperor.supervisor.vassal import State

from .test_supervisor import Emperor


def tried(probation_s: float = 0.0, **other: Any) -> Emperor:
    """A vassal whose second generation has a part of the requests."""
    emperor = Emperor(**other)
    emperor.up("blog.ini")
    reloading = Reloading(canary_share=5.0, canary_s=600.0, probation_s=probation_s)
    emperor.drop("blog.ini", reloading=reloading, queue=7)
    emperor.ready("blog", 2)
    return emperor


def told(emperor: Emperor) -> tuple[int | None, int | None, int | None, float]:
    found = emperor.supervisor.wanted("blog")
    assert found is not None
    return found.active, found.kept, found.beside, found.share


def kinds(emperor: Emperor) -> list[str]:
    return [each.kind for each in emperor.done if isinstance(each, Say) and each.kind]


def test_it_has_its_part_for_its_time_and_then_all() -> None:
    emperor = tried()
    assert (emperor.state(), told(emperor)) == (State.PROVING, (2, None, 1, 5.0))
    assert emperor.supervisor.vassals["blog.ini"].tried == 5.0
    emperor.after(599)
    assert emperor.state() is State.PROVING and emperor.supervisor.wake_at() == emperor.now + 1
    emperor.upgrade()
    assert told(emperor) == (2, None, 1, 5.0)
    emperor.after(1)
    assert (emperor.state(), told(emperor), emperor.leaving) == (
        State.READY,
        (2, None, None, 0.0),
        [("blog", 1)],
    )
    assert kinds(emperor)[-2:] == ["promoted", "proven"]


def test_a_probation_follows() -> None:
    emperor = tried(30.0)
    emperor.after(600)
    assert (emperor.state(), told(emperor)) == (State.PROVING, (2, 1, None, 0.0))
    emperor.after(29)
    assert emperor.state() is State.PROVING
    emperor.after(1)
    assert emperor.state() is State.READY


def test_one_that_falls_or_dies_leaves_all_to_the_one_before() -> None:
    for end in (lambda each: each.supervisor.fell("blog.ini", "5xx"), lambda each: each.dies("blog", 2)):
        emperor = tried()
        end(emperor)
        emperor.act()
        assert (emperor.state(), told(emperor)) == (State.READY, (1, None, None, 0.0))
        assert "generation 2 was taken back" in emperor.supervisor.vassals["blog.ini"].problem


def test_an_operator_may_decide_earlier() -> None:
    emperor = tried(30.0)
    assert (
        emperor.supervisor.promote("blog.ini", "me")
        == "generation 2 gets all requests, on probation for 30 s"
    )
    emperor.act()
    assert told(emperor) == (2, 1, None, 0.0)
    assert emperor.supervisor.promote("blog.ini", "me") == "generation 2 stays, and its probation is over"
    emperor.act()
    assert (emperor.state(), emperor.leaving) == (State.READY, [("blog", 1)])
    with pytest.raises(LookupError, match="nothing to promote"):
        emperor.supervisor.promote("blog.ini", "me")
    emperor = tried()
    assert emperor.supervisor.promote("blog.ini", "me") == "generation 2 gets all requests"
    assert emperor.state() is State.READY
    emperor = tried()
    assert "generation 1 serves again" in emperor.supervisor.roll_back("blog.ini", "me")
    assert told(emperor) == (1, None, None, 0.0)


def test_an_edit_meanwhile_gives_it_nothing_more() -> None:
    emperor = tried()
    emperor.drop("blog.ini", queue=8)
    assert (emperor.state(), told(emperor)) == (State.RELOADING, (1, None, None, 0.0))
    emperor.after(3)
    emperor.ready("blog", 3)
    assert (emperor.state(), told(emperor)) == (State.READY, (3, None, None, 0.0))
    assert emperor.supervisor.vassals["blog.ini"].problem == ""


def test_the_death_of_the_one_before_it_gives_it_all() -> None:
    emperor = tried()
    emperor.dies("blog", 1)
    assert (emperor.state(), told(emperor)) == (State.READY, (2, None, None, 0.0))


def test_without_memory_for_both_there_is_no_trial() -> None:
    emperor = tried(has_room=lambda: False)
    assert (emperor.state(), told(emperor)) == (State.READY, (2, None, None, 0.0))


def test_a_router_is_told_the_part_and_that_it_is_over() -> None:
    emperor = tried()
    found = emperor.supervisor.wanted("blog")
    messages, known = orders("blog", Told(None, {1, 2}, 1), found, 0)
    assert messages[-1].message == {
        "op": "activate", "name": "blog", "generation": 2, "beside": [1], "share": 5.0,
    }  # fmt: skip
    assert orders("blog", known, found, 0)[0] == []
    emperor.supervisor.promote("blog.ini", "me")
    messages, _ = orders("blog", known, emperor.supervisor.wanted("blog"), 0)
    assert messages[-1].message == {"op": "activate", "name": "blog", "generation": 2}
