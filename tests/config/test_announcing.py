"""`subscribe-to` and `subscribe2`: every form that uWSGI reads, and what is none."""

from pathlib import Path

import pytest

from emperor.config import ConfigError, announcing, load_vassal
from emperor.config.announcing import Announcement, Announcing, subscribe2, subscribe_to
from emperor.config.loading import VassalConfig
from emperor.config.problems import Mistake

HERE = "127.0.0.1:7000"

TAKEN = {
    "127.0.0.1:7000:a.example": Announcement(HERE, "a.example"),
    "/run/fr.sock:a.example": Announcement("/run/fr.sock", "a.example"),
    "127.0.0.1:7000:a.example:8080": Announcement(HERE, "a.example:8080"),
    "127.0.0.1:7000:a.example,5": Announcement(HERE, "a.example", modifier1=5),
    "127.0.0.1:7000:a.example,5,SHA1:k.pem": Announcement(
        HERE, "a.example", modifier1=5, digest="SHA1", pem="k.pem"
    ),
    "127.0.0.1:7000:a.example,md5:/k.pem": Announcement(HERE, "a.example", digest="MD5", pem="/k.pem"),
    "10.0.0.1:3031=127.0.0.1:7000:a.example": Announcement(HERE, "a.example", "10.0.0.1:3031"),
    "/run/a.sock=/run/fr.sock:a.example": Announcement("/run/fr.sock", "a.example", "/run/a.sock"),
    "=1=127.0.0.1:7000:a.example": Announcement(HERE, "a.example", socket=1),
    "127.0.0.1:7000:.example": Announcement(HERE, ".example"),
}

WRONG = [
    "",
    "a.example",
    "127.0.0.1:a.example",
    "127.0.0.1:7000:",
    "127.0.0.1:0:a.example",
    "127.0.0.1:70000:a.example",
    "router.example:7000:a.example",
    "[::1]:7000:a.example",
    "/run/fr.sock",
    f"/{'x' * 102}:a.example",
    "127.0.0.1:7000:@/etc/keys",
    "127.0.0.1:7000:a b",
    f"127.0.0.1:7000:{'a' * 256}",
    "127.0.0.1:7000:a.example,256",
    "127.0.0.1:7000:a.example,x",
    "127.0.0.1:7000:a.example,5,SHA1",
    "127.0.0.1:7000:a.example,5,MD4:k.pem",
    "127.0.0.1:7000:a.example,5,SHA1:",
    "0.0.0.0:3031=127.0.0.1:7000:a.example",
    ":3031=127.0.0.1:7000:a.example",
    "=1127.0.0.1:7000:a.example",
    "=65=127.0.0.1:7000:a.example",
]

TAKEN2 = {
    "server=127.0.0.1:7000,key=a.example": Announcement(HERE, "a.example"),
    "server=/run/fr.sock,key=a.example,socket=1,weight=3,backup=2": Announcement(
        "/run/fr.sock", "a.example", socket=1, weight=3, backup=2
    ),
    "key=a.example, server=127.0.0.1:7000, addr=10.0.0.1:1, modifier1=1, modifier2=2, sign=SHA-256:k.pem": Announcement(
        HERE, "a.example", "10.0.0.1:1", modifier1=1, modifier2=2, digest="SHA256", pem="k.pem"
    ),
    "server=127.0.0.1:7000,key=a.example,sni_key=/k,sni_crt=/c,sni_ca=/a": Announcement(
        HERE, "a.example", sni_key="/k", sni_crt="/c", sni_ca="/a"
    ),
}

WRONG2 = [
    "",
    "server=127.0.0.1:7000",
    "key=a.example",
    "server=127.0.0.1:7000,key=a.example,key=b.example",
    "server=127.0.0.1:7000,key=a.example,colour=red",
    "server=127.0.0.1:7000,key=a.example,weight",
    "server=127.0.0.1:7000,key=a.example,weight=-1",
    "server=127.0.0.1:7000,key=a.example,check=/run/on",
    "server=localhost:7000,key=a.example",
]


@pytest.mark.parametrize("text", TAKEN)
def test_subscribe_to(text: str) -> None:
    assert subscribe_to(text) == TAKEN[text]


@pytest.mark.parametrize("text", TAKEN2)
def test_subscribe2(text: str) -> None:
    assert subscribe2(text) == TAKEN2[text]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_subscribe_to(text: str) -> None:
    with pytest.raises(Mistake):
        subscribe_to(text)


@pytest.mark.parametrize("text", WRONG2)
def test_what_is_no_subscribe2(text: str) -> None:
    with pytest.raises(Mistake):
        subscribe2(text)


def vassal(tmp_path: Path, *lines: str) -> Path:
    (tmp_path / "blog.ini").write_text("\n".join(("[uwsgi]", "module = blog", *lines)))
    return tmp_path / "blog.ini"


def read(path: Path) -> VassalConfig:
    return load_vassal(path, directory=path.parent)


def test_an_app_without_a_listener_gets_one_on_loopback(tmp_path: Path) -> None:
    found = read(vassal(tmp_path, f"subscribe-to = {HERE}:a.example,0,SHA1:k.pem", "subscribe-freq = 3"))
    assert [(each.kind, each.address) for each in found.listening.listeners] == [("uwsgi", "127.0.0.1:0")]
    (said,) = found.announcing.announcements
    assert (said.key, said.pem, found.announcing.every_s) == ("a.example", str(tmp_path / "k.pem"), 3.0)
    assert Announcing.from_json(found.announcing.to_json()) == found.announcing


def test_one_with_a_listener_is_announced_by_it(tmp_path: Path) -> None:
    lines = ("http-socket = :0", "socket = 127.0.0.1:0", "uwsgi-socket = a.sock")
    found = read(vassal(tmp_path, *lines, f"subscribe-to = =1={HERE}:a.example"))
    assert len(found.listening.listeners) == 3
    named = announcing.uwsgi_listeners(found.listening)
    assert [each.address for each in named] == ["127.0.0.1:0", f"unix:{tmp_path}/a.sock"]


def test_one_that_says_where_it_is_needs_none(tmp_path: Path) -> None:
    found = read(vassal(tmp_path, f"subscribe-to = 10.0.0.1:3031={HERE}:a.example"))
    assert not found.listening.listeners


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["subscribe-to = 192.0.2.1:7000:a.example"], "on another host"),
        ([f"subscribe-to = =1={HERE}:a.example"], "no listener of the uwsgi protocol"),
        ([f"subscribe-to = =1={HERE}:a.example", "socket = :0"], "counted from 0"),
        (
            [f"subscribe-to = {HERE}:a.example", f"subscribe2 = server={HERE},key=a.example"],
            "announced twice",
        ),
        ([f"subscribe-to = {HERE}:a{at}.example" for at in range(65)], "more than 64"),
        ([f"subscribe-to = {HERE}:a.example", "subscribe-freq = 0"], "subscribe-freq"),
        (["subscribe-to = router:7000:a.example"], "IPv4 in numbers"),
    ],
)
def test_what_cannot_be_announced(tmp_path: Path, lines: list[str], why: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        read(vassal(tmp_path, *lines))
    assert why in str(refusal.value)


@pytest.mark.parametrize(
    "document", [None, [], {"announcements": {}}, {"announcements": [1]}, {"every_s": "x"}]
)
def test_what_is_no_document_of_announcements(document: object) -> None:
    with pytest.raises(ValueError, match="announc"):
        Announcing.from_json(document)
