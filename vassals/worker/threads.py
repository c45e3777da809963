"""The crew of ``threads = N``: threads of Python's."""

import select
import threading
from collections.abc import Callable
from typing import Any

from vassals.worker.crew import Crew, CrewError


class Threads(Crew):
    """``stack_bytes`` 0 leaves the size of a stack to the system. The app's own threads keep the system's."""

    def __init__(self, stack_bytes: int) -> None:
        self._stack_bytes = stack_bytes
        # Those of before the app is imported, whatever it patches.
        self._lock = threading.Lock
        self._poll = select.poll

    def lock(self) -> Any:
        return self._lock()

    def poll(self) -> Any:
        return self._poll()

    def once(self, run: Callable[[], None]) -> None:
        # In a thread of its own, as every request: what it binds to its thread ends with it.
        try:
            thread = threading.Thread(target=run, name="ready-path")
            thread.start()
        except RuntimeError as error:
            raise CrewError(
                f"the thread of ready-path: {error} (a limit: ulimit -u, TasksMax, memory?)"
            ) from None
        thread.join()

    def start(self, run: Callable[[], None], number: int) -> None:
        before = None
        try:
            # Outside of the next line, since a stack that the system cannot give is a ValueError here.
            if self._stack_bytes:
                before = threading.stack_size(self._stack_bytes)
            threading.Thread(target=run, name=f"request {number}").start()
        except ValueError as error:
            raise CrewError(f"threads-stacksize = {self._stack_bytes // 1024}: {error}") from None
        except RuntimeError as error:
            raise CrewError(f"thread {number}: {error} (a limit: ulimit -u, TasksMax, memory?)") from None
        finally:
            if before is not None:
                threading.stack_size(before)
