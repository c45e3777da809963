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


def test_a_router_that_does_not_answer_is_named_and_its_counts_are_not_known() -> None:
    document = example()
    known = ("seat", "pid", "state", "restarts", "last_exit")
    document["routers"] = [{**{key: document["routers"][0][key] for key in known}, "silent": 1}]
    text = table(document, 200)
    assert "router 0, pid 5, running, does not answer" in text
    row = next(line.split() for line in text.splitlines() if line.startswith("blog"))
    assert row[5:7] == ["?", "?"]
    document["routers"][0].update(pid=0, state="down")
    assert "does not answer" not in table(document, 200), "there is none to answer"


def test_weights_of_other_hosts_are_shown_where_they_are_not_one() -> None:
    document = example()
    app = document["routers"][0]["apps"]["blog"]
    link = {**app["links"][0], "ready": 1}
    app["links"] = [
        {**link, "host": "10.0.0.1", "weight": 4},
        {**link, "host": "10.0.0.1", "weight": 4},
        {**link, "host": "10.0.0.2", "weight": 1},
        {**link, "host": "10.0.0.3", "weight": 7, "ready": 0},
        {**link, "host": "", "weight": 0},
    ]
    lines = [line.rstrip() for line in table(document, 200).splitlines() if "have weight" in line]
    assert lines == ["blog: workers on 10.0.0.1 have weight 4"]


def test_lost_log_lines_are_told_of_when_there_are_any() -> None:
    document = example()
    document["routers"][0]["apps"]["blog"]["log_dropped"] = 0
    document["routers"][0]["stdout_log_dropped"] = 0
    assert "dropped" not in table(document, 200)
    document["emperor"]["log_dropped"] = 3
    document["routers"][0]["apps"]["blog"]["log_dropped"] = 4
    text = table(document, 200)
    assert "3 lines of the emperor's log were dropped" in text
    assert "4 lines of the access log of blog were dropped" in text


def test_hosts_that_somebody_has_subscribed_to_are_shown_with_their_nodes() -> None:
    document = example()
    router = document["routers"][0]
    node = router["subscriptions"]["nodes"][0]
    router["subscribed"] = {"old.test": {}, "gone.test": {}}
    router["subscriptions"]["nodes"] = [
        *({**node, "host": "old.test", "address": f"10.0.0.{at}:3031", "into": ""} for at in range(6)),
        {**node, "host": "blog.test", "address": "/run/a.sock", "into": "blog"},
    ]
    lines = [line.rstrip() for line in table(document, 200).splitlines() if line.startswith("subscribed")]
    assert lines == [
        "subscribed: blog.test (into blog): /run/a.sock",
        "subscribed: gone.test: no node now",
        "subscribed: old.test: 10.0.0.0:3031, 10.0.0.1:3031, 10.0.0.2:3031, 10.0.0.3:3031 and 2 more",
    ]


def test_who_shares_and_who_gets_copies_is_told() -> None:
    document = example()
    (share,) = document["routers"][0]["shares"]
    assert "x.example is answered 503: every weight of blog is 0: set one that is not" in table(document, 200)
    share["members"][0] |= {"weight": 95, "percent": 95}
    share["members"].append(
        {"name": "next", "weight": 5, "percent": 5, "ready": 0, "chosen": 0, "cookie": ""}
    )
    text = table(document, 200)
    assert "shared: x.example by cookie: blog 95 %, next 5 % (not ready)" in text and "503" not in text
    assert "blog: mirrored to next: 1 copied, 1 failed, 1 not copied" in text
    document["routers"][0]["apps"]["blog"]["mirrors"][0]["trouble"] = "there is no vassal next"
    assert "blog: mirror: there is no vassal next: no copies are made" in table(document, 200)


def test_what_one_of_several_routers_says_of_an_upstream_or_of_poison_is_told_once() -> None:
    document = example()
    first = document["routers"][0]
    app = first["apps"]["blog"]
    second = {**first, "seat": 1, "serves": 1, "apps": {"blog": {**app}}}
    document["routers"].append(second)
    upstream = {**app["upstreams"][0], "state": "ejected", "out_for_s": 7, "last_failure": "it timed out"}
    second["apps"]["blog"]["upstreams"] = [upstream]
    banned = {**app["poison"]["banned"][0], "seconds": 60}
    first["apps"]["blog"] = {**app, "poison": {**app["poison"], "banned": [{**banned, "seconds": 40}]}}
    second["apps"]["blog"]["poison"] = {**app["poison"], "banned": [banned]}
    text = table(document, 300)
    assert text.count("is left out for 7 s more after failures in a row: it timed out") == 1
    assert text.count(f"poison {banned['fingerprint']} is answered 500 for 60 s more") == 1
    second["serves"] = 0
    assert "is left out for" not in table(document, 300), "it only finishes what it has"
