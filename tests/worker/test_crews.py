"""What the links of a worker with several slots say to its gateway, and when."""

from typing import Any

from vassals.worker.crews import Crews


class Orders:
    """Of a worker that is to leave at once."""

    leave = "the test is over"
    turned = False

    def __init__(self) -> None:
        self.told: list[str] = []

    def turn(self) -> tuple[tuple[int, str], ...]:
        return (0, "here"), (1000, "far")

    def tell(self, state: str, **details: Any) -> None:
        self.told.append(state)

    def fds(self) -> list[int]:
        return []

    def take(self) -> None: ...


class Link:
    """One that is ready as soon as it is started."""

    served = 0

    def __init__(self, relay: Any) -> None:
        self._relay = relay

    def start(self, run: object) -> None:
        self._relay.tell("ready")

    def serves(self) -> bool:
        self._relay.tell("ready")
        return False

    def main_fd(self) -> int:
        return 0

    def beside(self, links: list[Any]) -> None: ...
    def obey(self) -> None: ...
    def depart(self) -> None: ...
    def count_too(self, served: int) -> None: ...


class Crew:
    def poll(self) -> "Crew":
        return self

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def test_nobody_is_ready_before_all_is_loaded() -> None:
    orders = Orders()
    made: Any = lambda seat, endpoint, relay: Link(relay)  # noqa: E731
    crews = Crews(Crew(), orders, (0, "here"), made, lambda _text: None)  # type: ignore[arg-type]
    crews.serve(lambda _exchange: None, lambda: orders.tell("loaded"))
    assert orders.told[0] == "loaded"
    assert orders.told.count("ready") == 4
