from typing import Any

from vassals.adapters.frameless import Frameless

def running(adapter: Any, app: Any, call: Any, among: dict[Any, Any] | None, over: Any) -> Running: ...

class Running(Frameless): ...
