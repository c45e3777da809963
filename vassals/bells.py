"""The bells that a gateway was started with, and its workers have from it (docs/specs/backplane.md, section 5)."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from emperor.control.messages import GatewaySpec

BELLS_FD: Final = 8
"""The router's bell, and behind it those of the seats, where the emperor has made any. Before it is `tracing.TRACE_FD`."""


def count(spec: "GatewaySpec") -> int:
    """How many descriptors there are from BELLS_FD on."""
    return spec.bells + 1 if spec.bells else 0


def of(spec: "GatewaySpec", seat: int) -> tuple[int, int]:
    """The descriptors of a seat's bell and of the router's; −1 for both where the seat has none."""
    return (BELLS_FD + 1 + seat, BELLS_FD) if seat < spec.bells else (-1, -1)


def to_keep(spec: "GatewaySpec", seat: int) -> tuple[int, ...]:
    """Those that a worker in this seat keeps."""
    return of(spec, seat) if seat < spec.bells else ()
