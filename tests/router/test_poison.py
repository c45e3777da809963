"""Requests that end workers: the cases of the module's table, and that an innocent neighbour is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperor.protocol import packet
from emperor.protocol.packet import RequestHead
from emperor.router.poison import BAN_S, CROWD, MOST_BANS, MOST_DEATHS, WINDOW_S, Poison, fingerprint


def asked(
    path: str = "/", *, query: bytes = b"", host: bytes = b"blog.localhost", length: int | None = None
) -> RequestHead:
    pairs = [
        (b"REQUEST_METHOD", b"GET" if length is None else b"POST"),
        (b"HTTP_HOST", host),
        (b"PATH_INFO", path.encode()),
        (b"QUERY_STRING", query),
    ]
    if length is not None:
        pairs.append((b"CONTENT_LENGTH", b"%d" % length))
    return packet.admit(packet.encode(pairs))


def told(story: str, deaths: int = 2) -> set[str]:
    """The poison after a story: `{p h}` is a death with both under way, `-p` that p was run to its end."""
    poison, now = Poison(deaths), 1000.0
    for word in _words(story):
        now += 1.0
        if isinstance(word, list):
            poison.died(now, [asked(f"/{name}") for name in word])
        elif word == "later":
            now += WINDOW_S
        else:
            poison.survived(asked(f"/{word}"), now)
    return {name for name in "phgkq" if poison.refuses(asked(f"/{name}"), now)}


def _words(story: str) -> list[str | list[str]]:
    words: list[str | list[str]] = []
    for part in story.split():
        if part.startswith("{"):
            words.append(part.strip("{}").split(","))
        else:
            words.append(part.removeprefix("-"))
    return words


@pytest.mark.parametrize(
    ("story", "poison"),
    [
        ("{p}", ""),
        ("{p} {p}", "p"),
        ("{p} -p {p}", ""),
        ("{p} -h {p}", "p"),
        ("{p,h} {p}", "p"),
        ("{p} {p,h}", "p"),
        ("{p,h} {p,g}", ""),
        ("{p,h} {p,g} {p,k}", "p"),
        ("{p,h} {p,h}", ""),
        ("{p,h} {p,h} {p,h}", ""),
        ("{p,h} {p,h} {p,h} -h", "p"),
        ("{p,h} -h {p,h}", "p"),  # h was well between the two
        ("{p,h} {p,h} -h", "p"),
        ("{p,h} {q,h}", ""),  # two that kill, and one that is always there
        ("{p,h} -h {q,h} -h", ""),
        ("{p} later {p}", ""),
        ("{p} {h}", ""),
        ("{p} {p} -p", ""),
        ("{p} {h} {p} {h}", "ph"),
    ],
)
def test_the_table(story: str, poison: str) -> None:
    assert told(story) == set(poison)


def test_more_deaths_if_so_asked_and_none_at_all() -> None:
    assert told("{p} {p}", deaths=3) == set()
    assert told("{p} {p} {p}", deaths=3) == {"p"}
    assert told("{p}", deaths=1) == {"p"}
    assert told("{p} {p} {p}", deaths=0) == set()


def test_the_same_request_twice_in_one_worker_is_alone() -> None:
    poison = Poison(2)
    for now in (1.0, 2.0):
        poison.died(now, [asked("/p"), asked("/p")])
    assert poison.refuses(asked("/p"), 3.0)


def test_after_a_ban_one_is_tried() -> None:
    poison = Poison(2)
    poison.died(1.0, [asked("/p")])
    (who,) = poison.died(2.0, [asked("/p")])
    assert poison.banned_s(who) == BAN_S
    assert poison.refuses(asked("/p"), 2.0 + BAN_S - 0.1) == who
    trial = 2.0 + BAN_S
    assert poison.refuses(asked("/p"), trial) == ""
    assert poison.refuses(asked("/p"), trial + 0.1) == who  # one, and not all
    assert poison.died(trial + 1.0, [asked("/p")]) == [who]
    assert poison.banned_s(who) == 2 * BAN_S
    trial += 1.0 + 2 * BAN_S
    assert poison.refuses(asked("/p"), trial) == ""
    poison.survived(asked("/p"), trial + 1.0)
    assert poison.refuses(asked("/p"), trial + 1.1) == ""
    assert not poison.watching


def test_a_ban_is_never_longer_than_the_memory() -> None:
    poison = Poison(2)
    now, longest = 0.0, 0.0
    for _ in range(12):
        now += 1.0
        for who in poison.died(now, [asked("/p")]):
            longest = max(longest, poison.banned_s(who))
    assert longest == WINDOW_S


@pytest.mark.parametrize(
    "other",
    [
        asked("/p", query=b"id=2"),
        asked("/p", host=b"shop.localhost"),
        asked("/p", length=5),
        asked("/P"),
    ],
)
def test_what_differs_is_another_request(other: RequestHead) -> None:
    poison = Poison(1)
    poison.died(1.0, [asked("/p", query=b"id=1")])
    assert poison.refuses(asked("/p", query=b"id=1"), 2.0)
    assert not poison.refuses(other, 2.0)


def test_a_fingerprint_says_nothing_of_what_it_is_of() -> None:
    assert len(fingerprint(asked("/p"))) == 16
    assert fingerprint(asked("/p")) == fingerprint(asked("/p"))


def test_a_crowd_tells_nothing() -> None:
    poison = Poison(1)
    assert poison.died(1.0, [asked(f"/{number}") for number in range(CROWD + 1)]) == []
    assert poison.died(2.0, []) == []
    assert not poison.watching


def test_its_memory_is_bounded() -> None:
    poison = Poison(1)
    for number in range(3 * MOST_DEATHS):
        poison.died(number / 100, [asked(f"/{number}")])
    report = poison.report(2.0)
    assert report["found"] == 3 * MOST_DEATHS
    assert len(report["banned"]) == MOST_BANS
    assert len(poison.paths) <= MOST_BANS + MOST_DEATHS
    poison.tidy(10_000.0)
    assert not poison.watching and not poison.paths


def test_the_statistics_say_nothing_of_clients() -> None:
    poison = Poison(1)
    poison.died(1.0, [asked("/secret-path", query=b"token=1")])
    poison.refuses(asked("/secret-path", query=b"token=1"), 2.0)
    report = poison.report(2.0)
    assert report["refused"] == 1
    assert "secret" not in repr(report) and "token" not in repr(report)


NAMES = st.sampled_from("abcd")


@given(st.lists(st.one_of(st.sets(NAMES, min_size=1, max_size=3), NAMES), max_size=30))
def test_who_is_well_after_the_last_death_is_no_poison(story: list[set[str] | str]) -> None:
    poison, now, well = Poison(2), 0.0, set("abcd")
    for event in story:
        now += 1.0
        if isinstance(event, set):
            poison.died(now, [asked(f"/{name}") for name in event])
            well -= event
        else:
            poison.survived(asked(f"/{event}"), now)
            well.add(event)
    for name in well:
        assert not poison.refuses(asked(f"/{name}"), now)
