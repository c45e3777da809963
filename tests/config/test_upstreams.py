"""What a vassal's file may say of an upstream, and what it may not."""

import pytest

from emperor.config.problems import Mistake
from emperor.config.upstreams import Address, Upstream, Upstreams


@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        ("uwsgi://10.0.0.2:3031", "uwsgi://10.0.0.2:3031"),
        ("UWSGI://App.Internal:3031", "uwsgi://app.internal:3031"),
        ("uwsgi:///run/app.sock", "uwsgi:///run/app.sock"),
        ("uwsgi://@app", "uwsgi://@app"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://127.0.0.1", "http://127.0.0.1:80"),
        ("http://[0:0::1]:8000", "http://[::1]:8000"),
        ("http:///run/app.sock", "http:///run/app.sock"),
    ],
)
def test_an_address_has_one_spelling(text: str, spelling: str) -> None:
    assert str(Address.parse(text)) == spelling
    assert Address.parse(spelling) == Address.parse(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("10.0.0.2:3031", "no address of an upstream"),
        ("https://10.0.0.2:443", "no address of an upstream"),
        ("uwsgi://10.0.0.2", "names no port"),
        ("uwsgi://10.0.0.2:0", "no port from 1 to 65535"),
        ("uwsgi://10.0.0.2:65536", "no port from 1 to 65535"),
        ("uwsgi://10.0.0.2:٣", "no port from 1 to 65535"),
        ("uwsgi://:3031", "names no host"),
        ("uwsgi://", "names no host"),
        ("uwsgi://a b:3031", "names no host"),
        ("uwsgi:///", "names no unix socket"),
        (f"uwsgi:///{'x' * 200}", "names no unix socket"),
        ("http://user@host:80", "names a user"),
        ("http://host:80/base", "has a path"),
        ("http://host:80/", "ends in a slash"),
        ("http://[::1:80:0:1:2:3:4:5", "no IPv6 address"),
        ("http://[nonsense]:80", "no IPv6 address"),
        ("http://[::1]80", "no address of an upstream"),
    ],
)
def test_what_is_no_address(text: str, reason: str) -> None:
    with pytest.raises(Mistake) as found:
        Address.parse(text)
    assert reason in found.value.reason


def test_words_behind_an_address() -> None:
    found = Upstream.parse("uwsgi://10.0.0.2:3031 weight=2 backup modifier1=5 modifier2=9")
    assert found == Upstream("uwsgi://10.0.0.2:3031", 2, True, 5, 9)
    assert Upstream.parse(str(found)) == found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no address of an upstream"),
        ("uwsgi://h:1 weight=0", "out of range: a number from 1 to 1000"),
        ("uwsgi://h:1 weight=many", "out of range"),
        ("uwsgi://h:1 weight", "says nothing of an upstream"),
        ("uwsgi://h:1 backup=true", "says nothing of an upstream"),
        ("uwsgi://h:1 heavy", "says nothing of an upstream"),
        ("uwsgi://h:1 weight=1 weight=2", "said twice"),
        ("uwsgi://h:1 modifier1=256", "out of range"),
        ("http://h:1 modifier1=5", "has no modifiers"),
    ],
)
def test_what_is_no_upstream(text: str, reason: str) -> None:
    with pytest.raises(Mistake) as found:
        Upstream.parse(text)
    assert reason in found.value.reason


def test_it_travels_and_comes_back() -> None:
    said = Upstreams(
        upstreams=(Upstream("uwsgi://h:1", 3, True, 5), Upstream("http://h:80")),
        connect_s=1.5,
        health_path="/healthz",
        maintenance="<h1>Löten</h1>",
    )
    assert Upstreams.from_json(said.to_json()) == said
    assert Upstreams.from_json({}) == Upstreams()
    assert not Upstreams()
    assert said


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ([], "upstreams: an object"),
        ({"upstreams": "x"}, "upstreams.upstreams"),
        ({"upstreams": [{"address": "nowhere"}]}, "upstream.address"),
        ({"upstreams": [{"address": "uwsgi://h:1", "weight": "2"}]}, "upstream.weight"),
        ({"upstreams": [{"address": "uwsgi://h:1", "modifier1": 300}]}, "upstream.modifier1"),
        ({"connect_s": "fast"}, "upstreams.connect_s"),
        ({"ping": 1}, "upstreams.ping"),
    ],
)
def test_a_message_that_is_none_names_its_key(document: object, key: str) -> None:
    with pytest.raises(ValueError, match=key.replace(".", r"\.")):
        Upstreams.from_json(document)
