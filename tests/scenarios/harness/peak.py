"""The most processes of one title that are alive at a time."""

import threading
import time

import psutil

EVERY_S = 0.01


class Peak:
    """Counts, from when it is made until `stop`, the children of `pid` whose title begins with `title`, with `deep` theirs
    too: a fork has the title of its parent until it has its own. What lives for less than `EVERY_S` it may miss."""

    def __init__(self, pid: int, title: str, deep: bool = False) -> None:
        self.most = 0
        self._deep = deep
        self._root, self._title = psutil.Process(pid), title
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def stop(self) -> int:
        """The most there were."""
        self._stop.set()
        self._thread.join()
        return self.most

    def _look(self) -> None:
        while not self._stop.is_set():
            self.most = max(self.most, sum(map(self._counts, self._root.children(recursive=self._deep))))
            time.sleep(EVERY_S)

    def _counts(self, process: psutil.Process) -> bool:
        try:
            running = process.status() != psutil.STATUS_ZOMBIE
            return running and " ".join(process.cmdline()).startswith(self._title)
        except psutil.NoSuchProcess:
            return False
