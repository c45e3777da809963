"""The configuration of vassals: one table of options, and the reading of files that are written in its
words.
"""

from emperor.config.listing import Listing, is_vassal_file, list_vassals, route_names, vassal_name
from emperor.config.loading import VassalConfig, load_vassal
from emperor.config.problems import ConfigError, Problem
from emperor.config.spec import AppSpec

__all__ = [
    "AppSpec",
    "ConfigError",
    "Listing",
    "Problem",
    "VassalConfig",
    "is_vassal_file",
    "list_vassals",
    "load_vassal",
    "route_names",
    "vassal_name",
]
