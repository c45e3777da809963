"""How the vassals are, in a line or two."""

import pytest

from emperor.supervisor.fleet import Vassal
from emperor.supervisor.restart import Backoff
from emperor.supervisor.sockets import Address
from emperor.supervisor.summary import summary, where_it_is, where_to_look
from emperor.supervisor.vassal import State

UNIX, TCP = Address.parse("unix:/run/http.sock"), Address.parse("127.0.0.1:8000")


def vassal(name: str, state: State) -> Vassal:
    backoff = Backoff(clock=lambda: 0.0, random=lambda: 0.0)
    return Vassal(f"{name}.ini", name, f"/etc/vassals/{name}.ini", backoff, state)


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ([], "0 of 0 vassals ready"),
        ([State.READY], "1 of 1 vassal ready"),
        ([State.RELOADING, State.BACKOFF], "1 of 2 vassals ready"),
    ],
)
def test_how_many_serve(states: list[State], said: str) -> None:
    assert summary([vassal("shop", state) for state in states]) == said


def test_where_to_look_is_told_of_those_that_are_ready_in_the_order_of_their_names() -> None:
    fleet = [vassal("Shop", State.READY), vassal("blog", State.READY), vassal("wiki", State.STARTING)]
    assert where_to_look(fleet, [UNIX, TCP], "/etc/vassals") == [
        "try http://shop.localhost:8000/",
        "try http://blog.localhost:8000/",
    ]
    assert where_to_look(fleet, [UNIX], "/etc/vassals") == []


def test_without_a_vassal_how_to_get_one_is_told() -> None:
    assert where_to_look([], [TCP], "/etc/vassals") == [
        "no vassal yet: put NAME.ini or NAME.toml into /etc/vassals"
    ]


def test_where_the_one_app_is() -> None:
    (line,) = where_it_is("shop:app", [TCP])
    assert line == f"serving shop:app at {TCP.url}"
    (line,) = where_it_is("shop:app", [Address.parse("0.0.0.0:8000")])
    assert line.endswith(", and at every other address of this host")
