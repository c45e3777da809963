"""What an emperor adds to every vassal's own file: its `vassal-set`, `vassals-include` and `vassals-inherit`.

In the order in which uWSGI puts them on a vassal's command line (core/emperor.c): the files named *before*,
the values set, the vassal's file, the files named after it. Of an option that is set more than once the last
value counts, so a vassal overrides what comes before its file and is overridden by what comes after.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layers:
    """Paths are absolute; `settings` are pairs of key and value, each as if it were a line of a file.

    `inherit_before` and `inherit` follow everything else, as `inherit` does in a file.
    """

    include_before: tuple[str, ...] = ()
    inherit_before: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    include: tuple[str, ...] = ()
    inherit: tuple[str, ...] = ()


NONE = Layers()
