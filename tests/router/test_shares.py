"""Vassals that share a domain: who gets a request, and who stays with whom."""

import random
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from emperor.config.sharing import NOT_SHARED, Sharing
from emperor.protocol import packet
from emperor.protocol.packet import RequestHead
from emperor.router.health import FAILURES
from emperor.router.shares import NAME, Shares, routes_of, token, told

from .client import Response, get, uwsgi
from .stage import Stage, Vassal
from .worker import FakeWorker, Request


class Sharer:
    """A vassal's app, as far as sharing goes."""

    def __init__(self, name: str, weight: int, by: str = "", *, ready: bool = True, **entry: Any) -> None:
        said = {"domains": ("shop.example",), "default": False, "only": False, **entry}
        self.name = name
        self.entry = SimpleNamespace(sharing=Sharing(weight=weight, by=by), **said)
        self.well = self.available = ready

    def ready(self) -> bool:
        return self.well


def head(host: str = "shop.example", **variables: str) -> RequestHead:
    pairs = {
        "REQUEST_METHOD": "GET",
        "HTTP_HOST": host,
        "PATH_INFO": "/",
        "REMOTE_ADDR": "192.0.2.1",
        **variables,
    }
    return packet.admit(packet.encode((key.encode(), value.encode()) for key, value in pairs.items()))


def shares(*apps: Sharer, seed: int = 1) -> Shares:
    return Shares("shop.example", apps, random.Random(seed).random)


def address(number: int) -> RequestHead:
    return head(REMOTE_ADDR=f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}")


@pytest.mark.parametrize("by", ["request", "cookie", "address"])
def test_weights_hold(by: str) -> None:
    found = shares(Sharer("shop", 95, by), Sharer("canary", 5))
    chosen = Counter(found.choose(address(number)).name for number in range(10_000))
    # Of 10,000 draws of 5 %: eight standard deviations.
    assert 325 < chosen["canary"] < 675
    assert [each["chosen"] for each in found.report()["members"]] == [chosen["canary"], chosen["shop"]]


@pytest.mark.parametrize(
    ("by", "variables"),
    [
        ("address", {}),
        ("header X-User", {"HTTP_X_USER": "ann"}),
        ("cookie session", {"HTTP_COOKIE": "a=b; session=4711"}),
        ("cookie", {"HTTP_COOKIE": f"{NAME}={token('canary')}"}),
    ],
)
def test_a_client_stays(by: str, variables: dict[str, str]) -> None:
    found = shares(Sharer("shop", 50, by), Sharer("canary", 50))
    assert len({found.choose(head(**variables)).name for _ in range(50)}) == 1


def test_of_two_cookies_the_first_that_names_one_of_them_counts() -> None:
    """A client that has been given to somebody for one path, and to somebody else for the whole domain, sends both."""
    found = shares(Sharer("shop", 50, "cookie"), Sharer("canary", 50), Sharer("off", 0))
    stranger, own, other, off = (token(name) for name in ("x", "canary", "shop", "off"))
    for said in ((stranger, own), (off, own), (own, other), ("", stranger, own)):
        asks = head(HTTP_COOKIE="; ".join(f"{NAME}={each}" for each in said))
        assert {found.choose(asks).name for _ in range(20)} == {"canary"}, said
        assert not found.cookie_for(asks, found.apps[0])
    assert found.cookie_for(head(HTTP_COOKIE=f"{NAME}={stranger}; {NAME}={off}"), found.apps[0])


def test_who_has_no_key_is_dealt_out_anew() -> None:
    for by in ("header X-User", "cookie session", "request"):
        found = shares(Sharer("shop", 50, by), Sharer("canary", 50))
        assert len({found.choose(head()).name for _ in range(50)}) == 2, by


def test_a_weight_that_grows_takes_clients_and_gives_none_away() -> None:
    before = shares(Sharer("shop", 95, "address"), Sharer("canary", 5))
    after = shares(Sharer("shop", 90, "address"), Sharer("canary", 10))
    moved = Counter(
        (before.choose(address(number)).name, after.choose(address(number)).name) for number in range(3000)
    )
    assert moved["canary", "shop"] == 0
    assert moved["shop", "canary"] < moved["shop", "shop"] / 5


def test_all_addresses_of_a_net_of_ipv6_are_one_client() -> None:
    found = shares(Sharer("shop", 50, "address"), Sharer("canary", 50))
    names = {found.choose(head(REMOTE_ADDR=f"2001:db8::{number:x}")).name for number in range(50)}
    assert len(names) == 1
    assert found.choose(head(REMOTE_ADDR="no address"))


@pytest.mark.parametrize("by", ["cookie", "address", "request"])
def test_the_part_of_one_that_is_not_ready_goes_to_the_others(by: str) -> None:
    shop, canary = Sharer("shop", 1, by), Sharer("canary", 99, ready=False)
    found = shares(shop, canary)
    stuck = head(HTTP_COOKIE=f"{NAME}={token('canary')}")
    assert {found.choose(each) for each in (head(), stuck) for _ in range(20)} == {shop}
    canary.well = True
    assert found.choose(stuck) is canary or by != "cookie"
    shop.well = False
    assert {found.choose(address(number)) for number in range(20)} == {canary}


def test_where_none_is_ready_one_that_will_be_gets_it() -> None:
    shop, canary = Sharer("shop", 1, ready=False), Sharer("canary", 99, ready=False)
    shop.available = True
    assert {shares(shop, canary).choose(head()) for _ in range(20)} == {shop}
    shop.available = False
    assert shares(shop, canary).choose(head()) in (shop, canary)


def test_weight_0_takes_nobody() -> None:
    shop, canary = Sharer("shop", 1, ready=False), Sharer("canary", 0)
    stuck = head(HTTP_COOKIE=f"{NAME}={token('canary')}")
    assert {shares(shop, canary).choose(each) for each in (head(), stuck)} == {shop}
    assert shares(Sharer("shop", 0), canary).choose(head()) is None


def test_the_first_file_that_says_so_says_by_what() -> None:
    assert shares(Sharer("b", 1, "request"), Sharer("a", 1, "address")).by == "address"
    assert shares(Sharer("b", 1, "request"), Sharer("a", 1)).by == "request"
    assert shares(Sharer("b", 1), Sharer("a", 1)).by == "cookie"


def test_a_client_is_given_away_once_and_not_while_somebody_is_missing() -> None:
    shop, canary = Sharer("shop", 1), Sharer("canary", 1)
    found = shares(shop, canary)
    field = found.cookie_for(head(HTTPS="on"), shop)
    assert field == f"Set-Cookie: {NAME}={token('shop')}; Path=/; HttpOnly; SameSite=Lax; Secure\r\n".encode()
    assert not found.cookie_for(head(HTTP_COOKIE=f"{NAME}={token('canary')}"), shop)
    assert found.cookie_for(head(HTTP_COOKIE=f"{NAME}=forged"), shop)
    canary.well = False
    assert not found.cookie_for(head(), shop)
    assert not shares(Sharer("shop", 1, "request"), canary).cookie_for(head(), shop)


def test_the_table_has_what_is_shared_and_what_is_not() -> None:
    shop = Sharer("shop", 9, domains=("shop.example", "shop.localhost"), default=True)
    canary = Sharer("canary", 1, domains=("shop.example", "canary.localhost"))
    blog = Sharer("blog", NOT_SHARED, domains=("blog.example",), only=True)
    idle = Sharer("idle", 0, domains=("idle.example", "idle.localhost"))
    routes, found = routes_of([shop, canary, blog, idle], [("sub.example", blog)], random.random, [])
    assert routes.shared and [each.route for each in found] == ["shop.example", "idle.example"]
    assert routes.find(b"shop.example", b"/") is found[0]
    assert routes.find(b"idle.example", b"/").choose(head()) is None
    alone = {"shop.localhost": shop, "canary.localhost": canary, "idle.localhost": idle, "blog.example": blog}
    assert {host: routes.find(host.encode(), b"/") for host in alone} == alone
    assert routes.find(b"sub.example", b"/") is blog
    assert routes.find(b"else.example", b"/") is shop
    assert told(routes, head("else.example"), shop, b"200 OK\r\n") == b"200 OK\r\n"
    assert told(routes, head(), shop, b"200 OK\r\n").startswith(b"200 OK\r\nSet-Cookie: ")
    found[0].choose(head())
    _, again = routes_of([shop, canary], [], random.random, found)
    assert sum(again[0].chosen) == 1
    assert not routes_of([blog], [], random.random, [])[0].shared


# In a router


def sharing(stage: Stage, name: str, weight: int, by: str = "", **entry: Any) -> Vassal:
    domains = ["shop.example", f"{name}.localhost"]
    return stage.vassal(name, domains=domains, sharing={"weight": weight, "by": by}, **entry)


def body(vassal: Vassal, count: int, *fields: str, host: str = "shop.example") -> Counter[str]:
    """Who answered so many clients."""
    with_names = Counter[str]()
    for _ in range(count):
        response = vassal.stage.http(get(host, "/", *fields)).response()
        with_names[_who(response)] += 1
    return with_names


def _who(response: Response) -> str:
    assert response.status == 200, response
    return response.headers["x-vassal"]


def named(vassal: Vassal, *, number: int = 1) -> None:
    """A worker that says whose it is."""

    def answer(worker: FakeWorker, request: Request) -> None:
        worker.respond(request, f"200 OK\r\nX-Vassal: {vassal.entry.name}\r\n")

    vassal.active(number, seats=1).answering(answer)


def test_two_vassals_share_a_domain_and_each_has_its_own_name(stage: Stage) -> None:
    shop, canary = sharing(stage, "shop", 1, "request"), sharing(stage, "canary", 1)
    named(shop)
    assert body(shop, 5) == {"shop": 5}, "the other one is not ready"
    named(canary)
    # Of 60 draws none falls to one of them: once in 10^18.
    assert set(body(shop, 60)) == {"shop", "canary"}
    assert body(shop, 3, host="canary.localhost") == {"canary": 3}
    assert b" 200 OK" in stage.uwsgi(uwsgi("shop.example")).everything_to_the_end()
    canary.tell(sharing={"weight": 0})
    assert body(shop, 20) == {"shop": 20}
    canary.tell(sharing={"weight": 1})
    shop.tell(paused="refuse")
    assert body(shop, 20) == {"canary": 20}
    shop.tell(paused="")
    (share,) = stage.stats()["shares"]
    assert (share["route"], share["by"]) == ("shop.example", "request")
    members = {each["name"]: each for each in share["members"]}
    assert {(each["weight"], each["percent"], each["ready"]) for each in members.values()} == {(1, 50, 1)}
    assert members["canary"]["chosen"] >= 20 and members["canary"]["cookie"] == ""
    canary.tell(domains=["canary.localhost"])
    assert body(shop, 20) == {"shop": 20}
    assert stage.stats()["shares"] == [], "one alone has all of it"


def test_a_browser_stays_with_the_one_that_it_was_given_to(stage: Stage) -> None:
    shop, canary = sharing(stage, "shop", 1), sharing(stage, "canary", 1)
    named(shop)
    named(canary)
    first = stage.http(get("shop.example")).response()
    cookie = first.headers["set-cookie"].partition(";")[0]
    assert cookie == f"{NAME}={token(_who(first))}"
    assert body(shop, 20, f"Cookie: {cookie}") == {_who(first): 20}
    again = stage.http(get("shop.example", "/", f"Cookie: {cookie}")).response()
    assert "set-cookie" not in again.headers
    assert "set-cookie" not in stage.http(get("shop.localhost")).response().headers


def test_weights_that_are_all_0_are_503(stage: Stage) -> None:
    shop = sharing(stage, "shop", 0)
    named(shop)
    refused = stage.http(get("shop.example")).response()
    assert (refused.status, refused.headers["unavailable-reason"]) == (503, "not-ready")
    assert stage.uwsgi(uwsgi("shop.example")).everything_to_the_end().startswith(b"HTTP/1.1 503")
    assert body(shop, 1, host="shop.localhost") == {"shop": 1}
    assert "all have weight = 0 that share 'shop.example'" in stage.wait_log("weight = 0")


def test_one_whose_only_upstream_fails_leaves_its_part_to_the_others(stage: Stage) -> None:
    shop, away = sharing(stage, "shop", 1, "request"), sharing(stage, "away", 1000)
    named(shop)
    # Nobody listens there: five of its clients see it.
    away.tell(upstreams={"upstreams": [{"address": "http://127.0.0.1:1"}]})
    answers = Counter(stage.http(get("shop.example")).response().status for _ in range(30))
    assert answers[503] <= FAILURES, answers
    assert body(shop, 5) == {"shop": 5}
