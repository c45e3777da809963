"""When what has died is started again: restart intensity from timestamps, after OTP's `supervisor` and s6.

Pure: the clock and the random numbers are given. The owner says what happened (`ready`, `died`) and is told
how long to wait.

Something that had been ready and dies once is started at once, since nothing is gained by making its users
wait. From the second death on, with less than `window_s` of life between them, and for what never became
ready, the wait is 1 s and doubles up to `cap_s`, so that a crash loop costs the machine little. It is
jittered, or everything that died with one database would come back in one instant and kill it again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

WINDOW_S = 10.0
FIRST_S = 1.0
CAP_S = 60.0
JITTER = 0.2
GIVE_UP_AFTER = 20


class Backoff:
    """The restart history of one thing.

    `clock()` is monotonic seconds, `random()` is in [0, 1). `failures` counts the deaths in a row that came
    before it was ever ready; at `give_up_after` of them `given_up` is true, and it is for the owner not to
    start it again until `reset`.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        random: Callable[[], float],
        window_s: float = WINDOW_S,
        first_s: float = FIRST_S,
        cap_s: float = CAP_S,
        jitter: float = JITTER,
        give_up_after: int = GIVE_UP_AFTER,
    ) -> None:
        self._clock = clock
        self._random = random
        self._window_s = window_s
        self._first_s = first_s
        self._cap_s = cap_s
        self._jitter = jitter
        self._give_up_after = give_up_after
        self.reset()

    def reset(self) -> None:
        """Forget everything: the operator has edited or reloaded it."""
        self.failures = 0
        self._level = 0  # 0: at once; n: first_s doubled n - 1 times
        self._ready = False
        self._restarted: float | None = None  # when the last wait that we named was over

    def hand_over(self) -> list[Any]:
        """The whole history; its times are the clock's."""
        return [self.failures, self._level, self._ready, self._restarted]

    def resume(self, history: Any) -> None:
        """Go on with it. Raises ValueError."""
        match history:
            case [int(failures), int(level), bool(ready), None | int() | float() as restarted]:
                self.failures, self._level, self._ready, self._restarted = failures, level, ready, restarted
            case _:
                raise ValueError(f"a history of restarts: {history!r}")

    @property
    def given_up(self) -> bool:
        return self.failures >= self._give_up_after

    def ready(self) -> None:
        """It has become ready since its last start."""
        self._ready = True
        self.failures = 0

    def died(self) -> float:
        """It has died; how many seconds to wait before it is started again."""
        now = self._clock()
        # Counted from the restart and not from the death before, or a wait longer than the window would by
        # itself end the loop that it is there to slow down.
        quick = self._restarted is not None and now - self._restarted < self._window_s
        if not self._ready:
            self.failures += 1
            self._level += 1
        elif quick:
            self._level += 1
        else:
            self._level = 0
        self._ready = False
        delay_s = 0.0
        if self._level:
            # The exponent is bounded because 2.0 ** 1024 is an error.
            delay_s = min(self._cap_s, self._first_s * 2.0 ** min(self._level - 1, 60))
            delay_s *= 1.0 + self._jitter * (2.0 * self._random() - 1.0)
        self._restarted = now + delay_s
        return delay_s
