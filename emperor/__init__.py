"""The operator's side of emperor-vassals: supervisor, router, control, statistics, command line."""

from typing import Final

__version__: Final = "0.1.0"
