"""What an emperor adds to every vassal's own file: its `vassal-set`, `vassals-include` and `vassals-inherit`.

In the order in which uWSGI puts them on a vassal's command line (core/emperor.c): the files named *before*,
the values set, the vassal's file, the files named after it. Of an option that is set more than once the last
value counts, so a vassal overrides what comes before its file and is overridden by what comes after.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Layers:
    """Paths are absolute; `settings` are pairs of key and value, each as if it were a line of a file.

    `inherit_before` and `inherit` follow everything else, as `inherit` does in a file. `origins` says for a setting
    where it was made (``/etc/emperor.toml:3``), so that what is wrong with it is named there.
    """

    include_before: tuple[str, ...] = ()
    inherit_before: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    include: tuple[str, ...] = ()
    inherit: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)

    def place(self, setting: str) -> str:
        """Where `setting` was made, as far as that is known."""
        return self.origins.get(setting, setting)


NONE = Layers()
