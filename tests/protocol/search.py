"""A search through every state that a protocol can come to, for one in which a promise is broken."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Protocol, TypeVar

State = TypeVar("State", bound=Hashable)


class Wrong(AssertionError):
    """The protocol broke a promise."""


def must(holds: object, promise: str) -> None:
    if not holds:
        raise Wrong(promise)


class Steps(Protocol[State]):
    """What can be searched. A step whose name begins with ``!`` is chance's: what is left to happen does not count it."""

    def steps(self, state: State) -> Iterable[tuple[str, Callable[[], State]]]:
        """All that can happen next: its name, and how it is done."""

    def take_step(self, state: State, step: Callable[[], State]) -> State:
        """Do one of them in this state."""

    def is_nothing(self, name: str, state: State, following: State) -> bool:
        """This step does not count as something that happens."""


def explore(
    protocol: Steps[State],
    first: State,
    check_end: Callable[[State], None],
    check: Callable[[State], None] = lambda state: None,
) -> tuple[int, int]:
    """Every state that ``first`` can lead to. Returns how many they are, and in how many nothing is left to happen. ``check``
    is called with each, ``check_end`` with the latter.

    Raises Wrong, with the shortest way there.
    """
    came: dict[State, tuple[State, str] | None] = {first: None}
    pending = deque([first])
    ends = 0
    while pending:
        state = pending.popleft()
        name, over = "", True
        try:
            for name, step in protocol.steps(state):
                following = protocol.take_step(state, step)
                over = over and protocol.is_nothing(name, state, following)
                if following not in came:
                    check(following)
                    came[following] = (state, name)
                    pending.append(following)
            name = "nothing more happens"
            if over:
                ends += 1
                check_end(state)
        except Wrong as wrong:
            way = [name]
            at = came[state]
            while at is not None:
                state, name = at
                way.append(name)
                at = came[state]
            raise Wrong("\n".join([str(wrong), *reversed(way)])) from None
    return len(came), ends
