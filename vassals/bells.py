"""The bells that a gateway was started with, and its workers have from it (docs/specs/backplane.md, section 5)."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from emperor.control.messages import GatewaySpec

BELLS_FD: Final = 8
"""The bells of the routers, by their seats, and behind them those of the workers' seats, where the emperor has made any. Before
them is `tracing.TRACE_FD`."""


def count(spec: "GatewaySpec") -> int:
    """How many descriptors there are from BELLS_FD on."""
    return spec.routers + spec.bells if spec.bells else 0


def of(spec: "GatewaySpec", seat: int, router_seat: int) -> tuple[int, int]:
    """The descriptors of a seat's bell and of that router's; −1 for both where there is none."""
    if seat >= spec.bells or router_seat >= spec.routers:
        return -1, -1
    return BELLS_FD + spec.routers + seat, BELLS_FD + router_seat


def to_keep(spec: "GatewaySpec", seat: int) -> tuple[int, ...]:
    """Those that a worker in this seat keeps."""
    if seat >= spec.bells:
        return ()
    return BELLS_FD + spec.routers + seat, *range(BELLS_FD, BELLS_FD + spec.routers)
