"""ASGI's lifespan: one call of the app that lasts as long as its worker.

``startup`` before the first request, ``shutdown`` after the last. Whether an app has one can only be found out by asking:
one that raises, or returns, before it has said anything has none (``auto``), unless the vassal says that it must (``on``).
"""

import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from vassals.adapters.asgi import App, AsgiError, Message

MODES: Final = ("auto", "on", "off")

_NEW: Final = "before startup"
_ASKED: Final = "during startup"
_UP: Final = "between startup and shutdown"
_ENDING: Final = "during shutdown"
_OVER: Final = "after shutdown"

# By what has been, and what the app says.
_STEPS: Final[dict[tuple[str, str], str]] = {
    (_ASKED, "lifespan.startup.complete"): _UP,
    (_ASKED, "lifespan.startup.failed"): _OVER,
    (_ENDING, "lifespan.shutdown.complete"): _OVER,
    (_ENDING, "lifespan.shutdown.failed"): _OVER,
}


class StartupFailed(Exception):
    """The app says that it cannot start. ``str()`` is why, in one line; ``details`` the rest, for the log."""

    def __init__(self, reason: str, details: str = "") -> None:
        super().__init__(reason)
        self.details = details


class Flag(Protocol):
    """What an event loop's Event is."""

    def set(self) -> None: ...
    async def wait(self) -> object: ...


class Lifespan:
    """``state`` is what the app keeps for its requests: each gets a copy of its own."""

    def __init__(
        self,
        app: App,
        mode: str,
        flag: Callable[[], Flag],
        begin: Callable[[Any], Awaitable[None]],
        log: Callable[[str], None],
    ) -> None:
        """``begin`` runs a coroutine beside the others, and gives what it can be waited for by."""
        self.state: dict[str, Any] = {}
        self._app = app
        self._mode = mode
        self._begin = begin
        self._log = log
        self._asked_to_end = flag()
        self._answered = flag()
        self._at = _NEW
        self._started = False
        self._failed = ""
        self._error: BaseException | None = None
        self._task: Awaitable[None] | None = None
        self._told: list[str] = ["lifespan.startup", "lifespan.shutdown"]

    async def startup(self) -> None:
        """Until the app is ready for requests. Raises StartupFailed."""
        if self._mode == "off":
            return
        self._at = _ASKED
        self._task = self._begin(self._run())
        await self._answered.wait()
        if self._started:
            return
        details = "" if self._error is None else "".join(traceback.format_exception(self._error))
        if self._failed:
            # Starlette's message is a whole traceback: its last line says what happened.
            last = self._failed.splitlines()[-1].strip()
            raise StartupFailed(f"lifespan startup failed: {last}", details or self._failed)
        if isinstance(self._error, SystemExit):
            raise StartupFailed(
                f"lifespan startup failed: the app called sys.exit({self._error.code!r})", details
            )
        what = "it returned at once" if self._error is None else f"it raised {_line(self._error)}"
        if self._mode == "on":
            raise StartupFailed(f"lifespan = on, but the app has none: {what}", details)
        if self._error is not None:
            self._log(f"the app has no lifespan: asked for one, {what}")

    async def shutdown(self) -> None:
        """Until the app has ended what it had started. Its failure is logged."""
        if self._at != _UP:
            return
        self._at = _ENDING
        self._asked_to_end.set()
        if self._task is not None:
            await self._task
        if self._failed:
            self._log(f"lifespan shutdown failed: {self._failed}")

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._receive, self._send)
        except BaseException as error:
            self._error = error
            if self._at in (_UP, _ENDING):
                text = "".join(traceback.format_exception(error))
                self._log(f"lifespan: the app raised {self._at}\n{text.rstrip()}")
                self._at = _OVER
        if self._at == _ASKED:
            self._at = _OVER
        self._answered.set()

    async def _receive(self) -> Message:
        if len(self._told) == 2:
            return {"type": self._told.pop(0)}
        await self._asked_to_end.wait()
        # As with http.disconnect, whoever asks again gets it again.
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        after = _STEPS.get((self._at, kind))
        if after is None:
            raise AsgiError(f"{kind} came {self._at} of the lifespan")
        self._at = after
        self._started = self._started or after == _UP
        if kind.endswith(".failed"):
            self._failed = str(message.get("message", "")).strip() or "the app does not say why"
        self._answered.set()


def _line(error: BaseException) -> str:
    return traceback.format_exception_only(error)[-1].strip()
