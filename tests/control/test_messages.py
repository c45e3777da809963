"""The documents of the control plane: there and back, and every wrong key named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperor.config.spec import AppSpec
from emperor.control.messages import GatewaySpec, RouterEntry

GATEWAY = GatewaySpec(
    name="blog",
    generation=3,
    app=AppSpec(module="blog.wsgi", pythonpath=("/srv",), env=(("A", "b"),)),
    processes=2,
    endpoint="/run/bp",
    token="0f" * 32,
    config_path="/etc/vassals/blog.ini",
    title="blog",
)
ENTRY = RouterEntry(name="blog", domains=("blog.example.com",), available=True, reason="x")


@pytest.mark.parametrize("document", [GATEWAY, ENTRY])
def test_there_and_back_through_text(document: Any) -> None:
    assert type(document).from_json(json.loads(json.dumps(document.to_json()))) == document


def test_an_unknown_key_is_ignored_and_an_absent_one_has_its_default() -> None:
    text = GATEWAY.to_json() | {"of the future": 1}
    del text["deck"]
    assert GatewaySpec.from_json(text) == GATEWAY
    assert RouterEntry.from_json({"name": "blog"}) == RouterEntry(name="blog")


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("name", 3, "name: a string expected"),
        ("generation", "3", "generation: an integer"),
        ("generation", True, "generation: an integer"),
        ("generation", 0, "generation: at least 1"),
        ("processes", -1, "processes: an integer, 0 or more"),
        ("uid", "www", "uid: an integer"),
        ("token", "xyz", "token: 64 lower-case hexadecimal digits"),
        ("start_timeout_s", float("nan"), "start_timeout_s: a number of seconds"),
        ("start_timeout_s", True, "start_timeout_s: a number of seconds"),
        ("need_app", 1, "need_app: true or false"),
        ("app", [], "app: "),
        ("app", {"module": 1}, "app: app.callable: missing"),
    ],
)
def test_a_wrong_value_is_named(key: str, value: Any, why: str) -> None:
    with pytest.raises(ValueError, match=f"gateway specification: {why}"):
        GatewaySpec.from_json(GATEWAY.to_json() | {key: value})


@pytest.mark.parametrize("key", ["name", "generation", "app", "processes", "endpoint", "token"])
def test_a_missing_key_is_named(key: str) -> None:
    text = GATEWAY.to_json()
    del text[key]
    with pytest.raises(ValueError, match=f"{key}: missing"):
        GatewaySpec.from_json(text)


def test_a_router_entry_is_as_strict() -> None:
    with pytest.raises(ValueError, match="router entry: domains: a list of strings"):
        RouterEntry.from_json({"name": "blog", "domains": "blog"})
    with pytest.raises(ValueError, match="router entry: an object expected, not list"):
        RouterEntry.from_json([])


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_whatever_comes_is_a_document_or_a_value_error(document: Any) -> None:
    for kind in (GatewaySpec, RouterEntry):
        with pytest.raises(ValueError, match=r"expected|missing"):
            kind.from_json(document)
