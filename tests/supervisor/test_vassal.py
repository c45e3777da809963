"""The table of a vassal's states: what it allows, what it refuses by name, and that the diagram in the docs
is it."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emperor.supervisor.vassal import (
    AWAITING,
    ROWS,
    SERVING,
    Effect,
    Event,
    State,
    Unlisted,
    change,
    diagram,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "architecture" / "life-of-a-vassal.md"


def walk(*events: Event, start: State = State.NEW) -> tuple[State, list[Effect]]:
    """The state after these events, and the effects of the last one."""
    state, effects = start, ()
    for event in events:
        state, effects = change(state, event)
    return state, list(effects)


def test_a_good_file_starts_and_serves() -> None:
    assert walk(Event.CHECKED) == (State.STARTING, [Effect.START])
    assert walk(Event.CHECKED, Event.UP) == (State.READY, [Effect.SWITCH])


def test_a_bad_edit_leaves_the_old_generation_serving() -> None:
    assert walk(Event.WRONG, start=State.READY) == (State.READY, [])
    assert walk(Event.CHECKED, Event.NEXT_FAILED, start=State.READY) == (State.READY, [Effect.DISCARD])


def test_what_had_been_ready_restarts_at_once_and_a_crash_loop_backs_off() -> None:
    assert walk(Event.DIED, start=State.READY) == (State.STARTING, [Effect.RESTART])
    assert walk(Event.DIED_AGAIN, start=State.READY) == (State.BACKOFF, [Effect.ARM])


def test_an_edit_ends_a_back_off_and_is_forgiven() -> None:
    for state in (State.BACKOFF, State.GIVEN_UP, State.REFUSED):
        after, effects = change(state, Event.CHECKED)
        assert after is State.STARTING
        assert Effect.FORGIVE in effects and effects[-1] is Effect.START


def test_a_file_that_comes_back_while_its_processes_leave_starts_again() -> None:
    assert walk(Event.REMOVED, Event.CHECKED, start=State.READY)[0] is State.STARTING


def test_an_unlisted_pair_names_both() -> None:
    with pytest.raises(Unlisted, match=r"GIVEN_UP.*'retry'"):
        change(State.GIVEN_UP, Event.RETRY)


def test_every_state_but_the_last_can_be_left_and_every_state_is_reached() -> None:
    assert {state for state, _ in ROWS} == set(State) - {State.GONE}
    assert {after for after, _ in ROWS.values()} == set(State) - {State.NEW}


def test_a_file_can_be_edited_broken_or_removed_in_every_state() -> None:
    for state in set(State) - {State.NEW, State.GONE}:
        for event in (Event.CHECKED, Event.WRONG, Event.REMOVED):
            assert (state, event) in ROWS, f"{state} has no row for {event}"


@settings(max_examples=1000)
@given(st.lists(st.sampled_from(list(Event)), max_size=40))
def test_generations_are_counted_right_whatever_happens(events: list[Event]) -> None:
    """A model of what runs: one awaited generation in the awaiting states, one serving in the serving
    ones."""
    state, serving, awaited, timer = State.NEW, False, False, False
    for event in events:
        if (state, event) not in ROWS:
            continue
        if event is Event.ADOPTED_STARTING or event is Event.ADOPTED:
            awaited = True
        elif event in (Event.DIED, Event.DIED_AGAIN, Event.FAILED, Event.HOPELESS):
            serving, awaited = (False, awaited) if state in SERVING else (serving, False)
        elif event is Event.RETRY:
            timer = False
        state, effects = change(state, event)
        for effect in effects:
            match effect:
                case Effect.START | Effect.RESTART:
                    assert not awaited, (
                        f"a second generation would start beside one, in {state} after {event}"
                    )
                    awaited = True
                case Effect.DISCARD:
                    awaited = False
                case Effect.SWITCH:
                    assert awaited
                    awaited, serving = False, True
                case Effect.PROVE:
                    assert awaited and serving
                    awaited = False
                case Effect.TAKE_BACK:
                    serving = True
                case Effect.DRAIN:
                    serving = False
                case Effect.ARM:
                    timer = True
                case Effect.DISARM:
                    timer = False
        assert serving == (state in SERVING), f"{state} after {event}"
        assert awaited == (state in AWAITING), f"{state} after {event}"
        assert timer == (state is State.BACKOFF), f"{state} after {event}"


def test_the_diagram_in_the_docs_is_the_table() -> None:
    assert f"```mermaid\n{diagram()}\n```" in DOCUMENT.read_text(encoding="utf-8")
