"""Which edits are in effect at once, and which wait for `emperor reload NAME`: the setting `auto-reload`.

It holds edits alone: a file that is new starts, and one that is gone goes, or a directory could not be told what
it serves. `touch-reload`, HUP and the commands are asked for by somebody, and carry an edit that waits with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

ON, OFF, VALIDATE_ONLY = "on", "off", "validate-only"

NOT_LOOKED_AT = "the edit is not applied (auto-reload = off)"
VALID = "the edit is valid, and not applied (auto-reload = validate-only)"
WRONG = "the edit is wrong, and not applied (auto-reload = validate-only): {}"
ROLLED_BACK = "rolled back to the reading before; what the file says is not in effect"


class Modes:
    """`said` is the setting: `MODE` for all places, `PLACE=MODE` for one; the last that applies counts."""

    def __init__(self, said: Iterable[str], places: Sequence[str]) -> None:
        self._all = ON
        self._of: dict[str, str] = {}
        self.warnings: list[str] = []
        for each in said:
            place, equals, mode = each.rpartition("=")
            if not equals:
                self._all = mode
                self._of.clear()
            elif place in places:
                self._of[place] = mode
            else:
                self.warnings.append(
                    f"auto-reload = {each}: {place} is none of the places that are served: {', '.join(places)}"
                )

    def of(self, place: str) -> str:
        """What holds for the files of this place."""
        return self._of.get(place, self._all)
