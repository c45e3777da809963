from collections.abc import Callable
from typing import Any

class Calls:
    fresh: bool
    def __init__(
        self,
        adapter: Any,
        app: Any,
        request: type[Any],
        tasks: dict[Any, Any],
        loop: Any,
        other: Callable[[Any], None],
        stir: Callable[[], None],
    ) -> None: ...
    def begin(self, exchange: Any) -> None: ...
