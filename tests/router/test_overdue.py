"""Which of a worker's requests have held it for too long, and how they are told of."""

from emperor.config.deadlines import ByPath
from emperor.protocol import packet
from emperor.router.exchange import Exchange
from emperor.router.overdue import HIDDEN, MOST_VARIABLES, overdue, plain, told, variables_of
from tests.router.parts import Nobody, head

NOW_NS = 100_000_000_000
LIMITS = ByPath(10.0, (("/export", 60.0), ("/events", 0.0)))


def running(path: str = "/") -> Exchange:
    nobody = Nobody()
    return Exchange(nobody, head(path=path), 0.0, nobody)  # type: ignore[arg-type]


def ago(seconds: float) -> int:
    return NOW_NS - int(seconds * 1e9)


def asked(**variables: bytes) -> Exchange:
    nobody = Nobody()
    pairs = {"REQUEST_METHOD": b"GET", "HTTP_HOST": b"blog.localhost", "PATH_INFO": b"/", **variables}
    made = packet.admit(packet.encode((key.encode(), value) for key, value in pairs.items()))
    return Exchange(nobody, made, 0.0, nobody)  # type: ignore[arg-type]


def late(
    slots: list[tuple[int, int]], streams: dict[int, Exchange], limits: ByPath = LIMITS
) -> list[Exchange]:
    return [each.exchange for each in overdue(slots, streams, limits, NOW_NS)]


def test_by_its_begin_and_its_path() -> None:
    at_limit, younger, export, events = running(), running(), running("/export/1"), running("/events")
    streams = {1: at_limit, 2: younger, 3: export, 4: events}
    slots = [(1, ago(10)), (2, ago(9.9)), (3, ago(59)), (4, ago(5000))]
    assert late(slots, streams) == [at_limit]
    (found,) = overdue([(3, ago(61))], streams, LIMITS, NOW_NS)
    assert (found.exchange, round(found.ran_s), found.limit_s) == (export, 61, 60.0)


def test_what_is_in_no_slot_has_not_begun() -> None:
    assert late([(0, ago(1000)), (2, ago(1000))], {1: running()}) == []


def test_a_start_in_the_future_harms_nobody() -> None:
    assert late([(1, NOW_NS + 10**12), (2, 2**64 - 1)], {1: running(), 2: running()}) == []


def test_without_a_limit_nobody_is_late() -> None:
    assert late([(1, 0)], {1: running()}, ByPath(0.0, ())) == []


def test_it_is_told_of_in_one_line() -> None:
    assert told(asked(REQUEST_URI=b"/a?b=1")) == "GET blog.localhost/a?b=1"
    assert told(asked(REQUEST_URI=b"/\xff\xe2\x80\xae")) == "GET blog.localhost/\\xff\\u202e"
    assert plain(b"\x1b[31m\n\x00", 99) == "\\x1b[31m\\n\\x00"
    assert len(told(asked(REQUEST_URI=b"/" + b"x" * 5000))) == 501


def test_what_may_be_secret_is_hidden() -> None:
    secret = {
        "HTTP_AUTHORIZATION": b"Basic eA==",
        "HTTP_PROXY_AUTHORIZATION": b"x",
        "HTTP_COOKIE": b"session=1",
        "HTTP_X_API_KEY": b"k",
        "HTTP_X_CSRF_TOKEN": b"t",
        "HTTP_X_AMZ_SIGNATURE": b"s",
    }
    lines = variables_of(asked(**secret, HTTP_X_PLAIN=b"yes", QUERY_STRING=b"a=1"))
    assert {f"{name}={HIDDEN}" for name in secret} <= set(lines)
    assert {"HTTP_X_PLAIN=yes", "QUERY_STRING=a=1", "REQUEST_METHOD=GET"} <= set(lines)
    assert lines == sorted(lines)


def test_as_much_as_a_log_can_bear() -> None:
    many = {f"HTTP_X_{number}": b"v" * 1000 for number in range(40)}
    lines = variables_of(asked(**many))
    assert len(lines) <= MOST_VARIABLES
    assert max(map(len, lines)) < 300
