"""Workers that died, in the reason column of `emperor status`: shown while it is news, and in one part."""

import time
from typing import Any

import pytest

from emperor.cli.table import RECENT_S

from ..stats.test_model import example
from .test_commands import table

KILLED = "killed by signal 9 (SIGKILL)"


def shown(*workers: dict[str, Any]) -> str:
    """The table's row of a vassal with these workers."""
    document = example()
    blog = next(each for each in document["vassals"] if each["name"] == "blog")
    blank = {"pid": 7, "state": "ready", "started": time.time() - 3600, "restarts": 0, "last_exit": ""}
    blog["workers"] = [{"seat": seat, **blank, **worker} for seat, worker in enumerate(workers)]
    return next(line for line in table(document, 200).splitlines() if line.startswith("blog"))


def test_a_worker_that_died_lately_is_named_with_its_exit() -> None:
    row = shown({}, {"started": time.time() - 5, "restarts": 1, "last_exit": KILLED})
    assert row.rstrip().endswith(f"worker 1: {KILLED}, restarted once")


def test_a_worker_that_is_missing_is_named_however_long_ago() -> None:
    row = shown(
        {"started": time.time(), "restarts": 3, "last_exit": KILLED},
        {"state": "dead", "pid": 0, "started": 0, "restarts": 4, "last_exit": "no database (app.py:3)"},
    )
    assert row.rstrip().endswith("worker 1 (and 1 more): no database (app.py:3), restarted 4 times")


@pytest.mark.parametrize(
    "worker", [{}, {"started": time.time() - RECENT_S - 5, "restarts": 2, "last_exit": KILLED}]
)
def test_what_is_no_news_is_not_shown(worker: dict[str, Any]) -> None:
    assert "worker" not in shown(worker)
