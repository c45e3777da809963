"""The configuration of vassals: one table of options, and the reading of files written in its words.

The names below are loaded when they are first asked for: a worker reads `emperor.config.spec` and must not
pay, in every process on the machine, for parsers and tables that only the emperor and the command line use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emperor.config.layers import Layers
    from emperor.config.listing import Listing, is_vassal_file, list_vassals, route_names, vassal_name
    from emperor.config.loading import VassalConfig, load_vassal
    from emperor.config.problems import ConfigError, Problem
    from emperor.config.spec import AppSpec

__all__ = [
    "AppSpec",
    "ConfigError",
    "Layers",
    "Listing",
    "Problem",
    "VassalConfig",
    "is_vassal_file",
    "list_vassals",
    "load_vassal",
    "route_names",
    "vassal_name",
]

_HOMES = {
    "AppSpec": "spec",
    "ConfigError": "problems",
    "Layers": "layers",
    "Listing": "listing",
    "Problem": "problems",
    "VassalConfig": "loading",
    "is_vassal_file": "listing",
    "list_vassals": "listing",
    "load_vassal": "loading",
    "route_names": "listing",
    "vassal_name": "listing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
