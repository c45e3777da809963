"""Which vassal a host and path go to."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperor.router.routes import Routes

TABLE = Routes(
    [
        ("example.com", "site"),
        ("example.com/shop", "shop"),
        ("example.com/shop/admin/", "admin"),
        ("*.example.com", "any"),
        ("*.example.com/api", "any api"),
        ("*.deep.example.com", "deep"),
        ("Mixed.Example.ORG", "mixed"),
        ("blog.example.com", "blog"),
        ("paths.example.com/only", "only"),
        ("blog.localhost", "blog"),
    ]
)


@pytest.mark.parametrize(
    ("host", "path", "target"),
    [
        ("example.com", "/", "site"),
        ("example.com", "/shop", "shop"),
        ("example.com", "/shop/", "shop"),
        ("example.com", "/shop/cart", "shop"),
        ("example.com", "/shopping", "site"),  # a path route ends at a slash, not inside a word
        ("example.com", "/shop/admin", "admin"),
        ("example.com", "/shop/admin/users", "admin"),
        ("example.com", "*", "site"),  # OPTIONS *
        ("www.example.com", "/", "any"),
        ("www.example.com", "/api/v1", "any api"),
        ("a.b.example.com", "/", "any"),  # any depth
        ("x.deep.example.com", "/", "deep"),  # the longer wildcard first
        ("x.deep.example.com", "/api", "deep"),  # and before the longer path of a shorter one
        ("deep.example.com", "/", "any"),  # a wildcard is not the name itself
        ("blog.example.com", "/api", "blog"),  # exact before wildcard, whatever the path
        ("paths.example.com", "/only/this", "only"),
        ("paths.example.com", "/else", "any"),  # no path of the exact host fits: the wildcard may
        ("mixed.example.org", "/", "mixed"),
        ("blog.localhost", "/", "blog"),
        ("com", "/", None),
        ("notexample.com", "/", None),
        ("other.test", "/", None),
        ("", "/", None),
    ],
)
def test_the_most_specific_route_wins(host: str, path: str, target: str | None) -> None:
    assert TABLE.find(host.encode(), path.encode()) == target


def test_the_fallback_takes_what_no_route_matches() -> None:
    routes = Routes([("a.test", "a")], "fallback")
    assert routes.find(b"a.test", b"/") == "a"
    assert routes.find(b"b.test", b"/") == "fallback"
    assert routes.find(b"", b"/") == "fallback"


def test_the_first_of_equal_routes_wins() -> None:
    routes = Routes(
        [("a.test", "first"), ("A.test", "second"), ("a.test/x/", "third"), ("a.test/x", "fourth")]
    )
    assert routes.find(b"a.test", b"/") == "first"
    assert routes.find(b"a.test", b"/x") == "third"


def test_ten_thousand_routes_cost_no_more_than_ten() -> None:
    def cost_s(routes: Routes, host: bytes) -> float:
        best = 1.0
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(2000):
                routes.find(host, b"/some/path")
            best = min(best, time.perf_counter() - start)
        return best

    small = Routes([(f"v{i}.example.com", i) for i in range(10)] + [("*.example.org", -1)])
    large = Routes(
        [(f"v{i}.example.com", i) for i in range(10_000)]
        + [(f"*.w{i}.example.org", i) for i in range(10_000)]
    )
    assert large.find(b"v9999.example.com", b"/") == 9999
    assert large.find(b"x.w9999.example.org", b"/") == 9999
    assert large.find(b"v10000.example.com", b"/") is None
    # A thousand times as many: what looks at each of them takes a thousand times as long, whatever the machine does.
    assert cost_s(large, b"v9999.example.com") < 50 * cost_s(small, b"v9.example.com")
    assert cost_s(large, b"x.y.w1.example.org") < 50 * cost_s(small, b"x.y.w1.example.org")


label = st.sampled_from(["a", "b", "c"])
host_names = st.lists(label, min_size=1, max_size=4).map(".".join)


@given(st.lists(st.tuples(host_names, st.booleans()), max_size=12), host_names)
def test_it_agrees_with_trying_every_route(names: list[tuple[str, bool]], host: str) -> None:
    routes = [("*." + name if wild else name, index) for index, (name, wild) in enumerate(names)]

    def rank(index: int) -> tuple[int, int, int]:
        name, wild = names[index]
        return (0 if wild else 1, len(name), -index)

    fits = [
        index
        for index, (name, wild) in enumerate(names)
        if (host.endswith("." + name) if wild else host == name)
    ]
    wanted = max(fits, key=rank, default=None)
    assert Routes(routes).find(host.encode(), b"/") == wanted
