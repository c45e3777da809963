import json
from pathlib import Path
from typing import Any

import pytest

from emperor.config import ConfigError, load_vassal
from emperor.config.balancing import Balancing
from emperor.config.problems import Mistake
from emperor.config.values import cookie_name, hash_key, path_count, rate


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("/export 2", ("/export", 2)),
        (("/export/", 2), ("/export", 2)),
        (("/", "3"), ("/", 3)),
    ],
)
def test_a_path_and_its_slots(value: Any, found: tuple[str, int]) -> None:
    assert path_count(value) == found


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("/export", "is not a path and a number of slots"),
        ("export 2", "is not the path of a request"),
        ("2 /export", "is not the path of a request"),
        ("/export 0", "out of range"),
        ("/export many", "is not a whole number"),
        (("/export", True), "is not a whole number"),
        (None, "needs a value"),
    ],
)
def test_what_is_none(value: Any, said: str) -> None:
    with pytest.raises(Mistake) as caught:
        path_count(value)
    assert said in str(caught.value.reason)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("10/s", (10.0, 10)),
        ("600/m", (10.0, 10)),
        ("36/h", (0.01, 1)),
        ("1.5/s 20", (1.5, 20)),
        ("0", (0.0, 0)),
        (0, (0.0, 0)),
    ],
)
def test_a_rate(value: Any, found: tuple[float, int]) -> None:
    assert rate(value) == found


@pytest.mark.parametrize(
    "value", ["10", "10r/s", "10/d", "-1/s", "0/s", "10/s 0", "10/s x", "9999999/s", None, True, 5]
)
def test_what_is_no_rate(value: Any) -> None:
    with pytest.raises(Mistake):
        rate(value)


def test_what_is_hashed() -> None:
    assert [hash_key(each) for each in ("address", "header  X-User", "cookie sid")] == [
        "address",
        "header X-User",
        "cookie sid",
    ]
    for wrong in ("", "header", "cookie a b", "address x", "path", "header X:Y", 5):
        with pytest.raises(Mistake):
            hash_key(wrong)


def test_the_name_of_a_cookie() -> None:
    assert cookie_name("worker") == "worker"
    for wrong in ("a b", "a;b", "a=b", "", "ü", "x" * 65):
        with pytest.raises(Mistake):
            cookie_name(wrong)


INI = """\
[uwsgi]
module = a
queue-target = 500ms
slow-start = 2
reserve = /healthz 1
bulkhead = /export 2
bulkhead = /report 1
balance = hash
hash-by = header X-User
sticky = worker
retries = false
limit-requests = 100/s 200
limit-requests-per-address = 600/m
limit-concurrency = 50
limit-concurrency-per-address = 5
"""
TOML = """\
module = "a"
queue-target = "500ms"
slow-start = 2
reserve = ["/healthz 1"]
balance = "hash"
hash-by = "header X-User"
sticky = "worker"
retries = false
limit-requests = "100/s 200"
limit-requests-per-address = "600/m"
limit-concurrency = 50
limit-concurrency-per-address = 5
[bulkhead]
"/export" = 2
"/report" = 1
"""
WHOLE = Balancing(
    queue_target_s=0.5,
    slow_start_s=2.0,
    reserve=(("/healthz", 1),),
    bulkheads=(("/export", 2), ("/report", 1)),
    balance="hash",
    hash_by="header X-User",
    sticky="worker",
    retries=False,
    rate=(100.0, 200),
    rate_each=(10.0, 10),
    concurrency=50,
    concurrency_each=5,
)


@pytest.mark.parametrize(("content", "name"), [(INI, "a.ini"), (TOML, "a.toml")])
def test_all_formats_say_the_same(tmp_path: Path, content: str, name: str) -> None:
    (tmp_path / name).write_text(content)
    config = load_vassal(tmp_path / name, directory=tmp_path)
    assert config.balancing == WHOLE
    assert config.warnings == ()


def test_what_is_so_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "a.ini").write_text("[uwsgi]\nmodule = a\n")
    config = load_vassal(tmp_path / "a.ini", directory=tmp_path)
    assert config.balancing == Balancing(queue_target_s=5.0, slow_start_s=5.0, retries=True)


def test_what_is_wrong_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.ini").write_text("[uwsgi]\nmodule = a\nbalance = fair\nlimit-requests = 10r/s\n")
    with pytest.raises(ConfigError) as caught:
        load_vassal(tmp_path / "a.ini", directory=tmp_path)
    assert "a.ini:3: balance: 'fair' is none of slots, least" in str(caught.value)
    assert "a.ini:4: limit-requests: '10r/s' is not a rate" in str(caught.value)


def test_it_travels() -> None:
    assert Balancing.from_json(json.loads(json.dumps(WHOLE.to_json()))) == WHOLE
    assert Balancing.from_json({"of": "another version"}) == Balancing()


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "an object expected"),
        ({"queue_target_s": -1}, "balancing.queue_target_s: 0 or more"),
        ({"reserve": [["/a", 0]]}, "balancing.reserve: a list of pairs"),
        ({"bulkheads": "/a"}, "balancing.bulkheads: a list of pairs"),
        ({"rate": [1.0]}, "balancing.rate: a pair"),
        ({"rate": [1.0, 0]}, "balancing.rate: a pair"),
        ({"rate_each": [True, 1]}, "balancing.rate_each: a pair"),
        ({"retries": 1}, "balancing.retries: bool expected"),
        ({"concurrency": -1}, "balancing.concurrency: 0 or more"),
        ({"balance": None}, "balancing.balance: str expected"),
    ],
)
def test_what_another_process_may_not_say(document: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Balancing.from_json(document)
