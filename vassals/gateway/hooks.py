"""When the commands of a vassal's hooks are run, and with which environment (`commands` runs them)."""

from __future__ import annotations

import os
from collections.abc import Callable

from emperor.control.messages import GatewaySpec

from .commands import Commands
from .recycler import Note

AT_EXIT_S = 1.0
"""The least time for what is run at the end. The emperor kills two seconds after the time to stop is up."""

Done = Callable[[str], None]
"""Called with why not all of it was done, or nothing."""


class Hooks:
    """Those of one generation, at the moments of its life."""

    def __init__(self, spec: GatewaySpec, commands: Commands, note: Note) -> None:
        self._spec = spec
        self._hooks = spec.hooks
        self._commands = commands
        self._note = note
        self._at_exit = spec.hooks.atexit
        self._has_served = False

    def before_app(self, done: Done) -> None:
        self._commands.run(self._hooks.before, self._environment(), self._hooks.timeout_s, done)

    def after_app(self, done: Done) -> None:
        self._commands.run(self._hooks.after, self._environment(), self._hooks.timeout_s, done)

    def accepting(self, number: int) -> None:
        """The worker in this seat serves. What is run now holds up nobody, and fails nobody."""
        hooks = self._hooks
        jobs = hooks.accepting if self._has_served else (*hooks.accepting1, *hooks.accepting)
        self._has_served = True
        if jobs:
            environ = {**self._environment(), "EMPEROR_WORKER": str(number)}
            self._commands.run(jobs, environ, hooks.timeout_s, self._say)

    @property
    def has_last(self) -> bool:
        """There is something to run at the end, and it was not run yet."""
        return bool(self._at_exit) and self._has_served

    def at_exit(self, left_s: float, done: Callable[[], None]) -> None:
        """The last worker has left. What is run now has what is left of the time to stop, and a second at least."""

        def ended(why: str) -> None:
            self._say(why)
            done()

        jobs, self._at_exit = self._at_exit, ()
        limit_s = min(self._hooks.timeout_s, max(AT_EXIT_S, left_s + AT_EXIT_S))
        self._commands.run(jobs, self._environment(), limit_s, ended)

    def _say(self, why: str) -> None:
        if why:
            self._note("error", why)

    def _environment(self) -> dict[str, str]:
        """What the app has in its own."""
        app = self._spec.app
        environ = {**os.environ, **dict(app.env)}
        for name in app.unenv:
            environ.pop(name, None)
        generation = str(self._spec.generation)
        return {**environ, "EMPEROR_VASSAL": self._spec.name, "EMPEROR_GENERATION": generation}
