"""docs/architecture/life-of-a-request.md says what the table of an exchange says."""

import re
from pathlib import Path

from emperor.router import states
from emperor.router.states import TRANSITIONS, Event, State

PAGE = (Path(__file__).parents[2] / "docs" / "architecture" / "life-of-a-request.md").read_text()


def diagram() -> str:
    """The table as the page draws it."""
    rows = ["stateDiagram-v2", f"    [*] --> {State.QUEUED.name}"]
    for (state, event), following in TRANSITIONS.items():
        rows.append(f"    {state.name} --> {following.name}: {event.name.lower().replace('_', ' ')}")
    rows.append(f"    {State.ENDED.name} --> [*]")
    return "\n".join(rows)


def test_the_diagram_is_the_table() -> None:
    drawn = re.search(r"```mermaid\n(.*?)\n```", PAGE, re.DOTALL)
    assert drawn is not None
    assert drawn[1] == diagram(), f"put this there:\n{diagram()}"


def test_every_state_is_explained_as_in_the_code() -> None:
    for state in State:
        said = re.search(rf"^\| {state.name} \| (.*) \|$", PAGE, re.MULTILINE)
        meant = re.search(rf"^{state.name}  +(.*)$", states.__doc__ or "", re.MULTILINE)
        assert said is not None
        assert meant is not None
        assert said[1] == meant[1]


def test_every_event_is_explained() -> None:
    explained = re.findall(r"^\| ([a-z ]+) \| ", PAGE[PAGE.index("| event |") :], re.MULTILINE)
    assert [event.name.lower().replace("_", " ") for event in Event] == explained[1 : len(Event) + 1]
