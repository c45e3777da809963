"""The modules that an app has from uWSGI and from nowhere else, offered to its imports: `uwsgi` and `uwsgidecorators`.

What they are is in `vassals.shim`, which is loaded when an app imports one of them, and not before. An app's own module named
`uwsgi` goes before ours; of `uwsgidecorators` ours goes first, since the package that may lie in an app's virtualenv is for
uWSGI's own.
"""

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emperor.control.messages import GatewaySpec
    from vassals.worker.orders import Orders


class Here:
    """The worker that this process is. Of a template, or before there is one, `seat` is -1."""

    spec: "GatewaySpec | None" = None
    seat = -1
    board_fd = -1
    orders: "Orders | None" = None


class Finder:
    """Finds one module."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != self.name:
            return None
        from importlib.util import spec_from_file_location

        from vassals import shim

        return spec_from_file_location(name, os.path.join(shim.__path__[0], f"{name}.py"))


def offer(spec: "GatewaySpec") -> None:
    """From now on imports find them."""
    Here.spec = spec
    sys.meta_path.insert(0, Finder("uwsgidecorators"))
    sys.meta_path.append(Finder("uwsgi"))


def seated(seat: int, board_fd: int, orders: "Orders") -> None:
    """This process is the worker of a seat."""
    Here.seat, Here.board_fd, Here.orders = seat, board_fd, orders


def imported() -> bool:
    """Whether the app has imported one of them."""
    return "vassals.shim" in sys.modules
