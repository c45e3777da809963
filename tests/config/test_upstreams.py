"""What a vassal's file may say of an upstream, and what it may not."""

from pathlib import Path

import pytest

from emperor.config.loading import VassalConfig, load_vassal
from emperor.config.problems import ConfigError, Mistake
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
        ("https://App.Internal", "https://app.internal:443"),
        ("https://[::1]:8443", "https://[::1]:8443"),
    ],
)
def test_an_address_has_one_spelling(text: str, spelling: str) -> None:
    assert str(Address.parse(text)) == spelling
    assert Address.parse(spelling) == Address.parse(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("10.0.0.2:3031", "no address of an upstream"),
        ("suwsgi://10.0.0.2:443", "no address of an upstream"),
        ("https:///run/app.sock", "is TLS within this machine"),
        ("uwsgi://10.0.0.2", "names no port"),
        ("uwsgi://10.0.0.2:0", "no port from 1 to 65535"),
        ("uwsgi://10.0.0.2:65536", "no port from 1 to 65535"),
        ("uwsgi://10.0.0.2:٣", "no port from 1 to 65535"),
        ("uwsgi://:3031", "names no host"),
        ("uwsgi://", "names no host"),
        ("uwsgi://a b:3031", "names no host"),
        ("uwsgi://a..b:3031", "names no host"),
        (f"http://{'x' * 64}.example", "names no host"),
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


def test_what_has_to_be_looked_up() -> None:
    hosts = ["http://a:1", "http://a.example:1", "http://10.0.0.1:1", "http://[::1]:1", "http://@a"]
    assert [Address.parse(each).is_name for each in hosts] == [True, True, False, False, False]


def test_words_behind_an_address() -> None:
    found = Upstream.parse("uwsgi://10.0.0.2:3031 weight=2 backup modifier1=5 modifier2=9 max-connections=32")
    assert found == Upstream("uwsgi://10.0.0.2:3031", 2, True, 5, 9, 32)
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
        ("uwsgi://h:1 max-connections=0", "out of range: a number from 1 to 65535"),
        ("uwsgi://h:1 max-connections=1 max-connections=2", "said twice"),
        ("uwsgi://h:1 most=1", "says nothing of an upstream"),
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


# In a vassal's file


def read(tmp_path: Path, text: str, name: str = "shop.ini") -> VassalConfig:
    (tmp_path / name).write_text(text)
    return load_vassal(tmp_path / name, directory=tmp_path)


def problems(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as found:
        read(tmp_path, text)
    return "\n".join(map(str, found.value.problems))


def test_a_file_with_upstreams_needs_no_app(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        "[vassal]\nupstream = uwsgi://10.0.0.2:3031 weight=2\nupstream = http://10.0.0.3 backup\n"
        "upstream-connect-timeout = 500ms\nhealth-path = /up\nhealth-interval = 2s\n",
    )
    assert [str(each) for each in config.upstreams.upstreams] == [
        "uwsgi://10.0.0.2:3031 weight=2",
        "http://10.0.0.3:80 backup",
    ]
    assert (config.upstreams.connect_s, config.upstreams.health_path, config.upstreams.health_s) == (
        0.5,
        "/up",
        2.0,
    )
    assert config.processes == 0
    assert not config.request_buffering
    assert config.warnings == ()


def test_a_list_in_toml_and_bodies_read_first_when_it_says_so(tmp_path: Path) -> None:
    config = read(
        tmp_path, 'upstream = ["uwsgi://h:1", "uwsgi://h:2"]\nrequest-buffering = true\n', "shop.toml"
    )
    assert len(config.upstreams.upstreams) == 2
    assert config.request_buffering


def test_an_app_without_upstreams_has_none(tmp_path: Path) -> None:
    (tmp_path / "app.py").touch()
    config = read(tmp_path, "[vassal]\nwsgi-file = app.py\nhealth-path = /up\n")
    assert not config.upstreams
    assert [str(each) for each in config.warnings] == [
        f"{tmp_path}/shop.ini:3: health-path: has no effect without an upstream"
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "module = app\nupstream = uwsgi://h:1",
            ":3: upstream: excludes module: a vassal has an app of its own or upstreams",
        ),
        (
            "upstream = uwsgi://h:1\nupstream = uwsgi://H:1",
            ":2: upstream: names uwsgi://h:1 2 times (weight=2)",
        ),
        ("upstream = uwsgi://h", ":2: upstream: 'uwsgi://h' names no port"),
        ("upstream = uwsgi://h:1\nmaintenance = nowhere.html", ":3: maintenance: there is no file"),
        ("upstream = uwsgi://h:1\nmaintenance = large.html", "has more than 65536 bytes"),
        ("upstream = uwsgi://h:1\nmaintenance = latin.html", "is not UTF-8"),
        ("upstream = uwsgi://h:1\nhealth-path = up", ":3: health-path"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "large.html").write_bytes(b"x" * 65537)
    (tmp_path / "latin.html").write_bytes(b"L\xf6ten")
    assert reason in problems(tmp_path, f"[vassal]\n{text}\n")


def test_an_upstream_that_is_none_is_all_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as found:
        read(tmp_path, "[vassal]\nupstream = http://h:80/\nhealth-path = /up\n")
    assert [str(each) for each in found.value.problems] == [
        f"{tmp_path}/shop.ini:2: upstream: 'http://h:80/' ends in a slash (write http://h:80: a request keeps its own path)"
    ]
    assert found.value.warnings == ()


def test_what_counts_slots_of_workers_has_no_effect_and_policies_have(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        "[vassal]\nupstream = uwsgi://h:1\nbulkhead = /slow 2\nreserve = /up 1\nbalance = hash\nsticky = where\n",
    )
    said = [str(each).partition(": ")[2] for each in config.warnings]
    assert [
        each for each in said if "it counts slots of workers, and upstreams have max-connections=" in each
    ] == said
    assert [each.partition(":")[0] for each in said] == ["bulkhead", "reserve"]


def test_of_workers_elsewhere_only_some_of_it_has_an_effect(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        "[vassal]\nremote = true\nreserve = /up 1\nbalance = hash\nsticky = where\nbulkhead = /slow 2\n",
    )
    said = [str(each).partition(": ")[2].partition(":")[0] for each in config.warnings]
    assert sorted(said) == ["reserve"]


def test_what_is_for_workers_has_no_effect(tmp_path: Path) -> None:
    config = read(
        tmp_path, "[vassal]\nupstream = uwsgi://h:1 backup\nprocesses = 4\nharakiri = 30s\nchdir = /\n"
    )
    said = "\n".join(map(str, config.warnings))
    assert "processes: has no effect: a vassal with upstreams has no app of its own" in said
    assert "harakiri: has no effect" in said
    assert "every one is a backup" in said
    assert "chdir" not in said


PEM = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n"


def test_what_is_said_of_tls(tmp_path: Path) -> None:
    for name, text in (("ca.pem", PEM), ("own.pem", PEM), ("own.key", KEY), ("both.pem", KEY + PEM)):
        (tmp_path / name).write_text(text)
    lines = "[vassal]\nupstream = https://h\nupstream-ca = ca.pem\nupstream-name = App.Internal\n"
    config = read(tmp_path, f"{lines}upstream-cert = own.pem\nupstream-key = own.key\n")
    said = config.upstreams
    assert (said.upstreams[0].address, said.ca, said.tls_name) == ("https://h:443", PEM, "app.internal")
    assert PEM in said.cert and KEY in said.cert and said.verify
    assert "PRIVATE" not in repr(said)
    assert config.warnings == ()
    # So that a new certificate is taken up like an edit.
    paths = [each.path for each in config.sources]
    assert {str(tmp_path / name) for name in ("ca.pem", "own.pem", "own.key")} <= set(paths)
    assert read(tmp_path, f"{lines}upstream-cert = both.pem\n").upstreams.cert == KEY + PEM
    assert Upstreams.from_json(said.to_json()) == said


def test_what_is_said_of_tls_and_comes_to_nothing_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(PEM)
    found = read(tmp_path, "[vassal]\nupstream = http://h\nupstream-ca = ca.pem\nupstream-verify = off\n")
    assert found.upstreams.ca == ""
    assert [str(each).partition(": ")[2] for each in found.warnings] == [
        "upstream-ca: has no effect: no upstream is https://",
        "upstream-verify: has no effect: no upstream is https://",
    ]
    found = read(tmp_path, "[vassal]\nupstream = https://h\nupstream-ca = ca.pem\nupstream-verify = off\n")
    assert not found.upstreams.verify
    said = "\n".join(map(str, found.warnings))
    assert "upstream-verify: off: whoever can answer in the place of an upstream is believed" in said
    assert "upstream-ca: has no effect: upstream-verify is off" in said


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("upstream-ca = no.pem", ":3: upstream-ca: there is no file"),
        ("upstream-ca = own.key", "own.key holds no certificate (it begins with -----BEGIN CERTIFICATE-----"),
        ("upstream-ca = large.pem", "large.pem has more than 65536 bytes"),
        ("upstream-ca = der.pem", "der.pem is not UTF-8"),
        ("upstream-cert = own.pem", ":3: upstream-cert: {0}/own.pem holds no private key"),
        (
            "upstream-cert = own.pem\nupstream-key = own.pem",
            ":4: upstream-key: {0}/own.pem holds no private key",
        ),
        ("upstream-cert = own.pem\nupstream-key = locked.key", "locked.key has a passphrase"),
        ("upstream-key = own.key", ":3: upstream-key: is of no certificate (name that in upstream-cert)"),
        ("upstream-name = a/b", ":3: upstream-name: 'a/b' is no name of a host"),
        ("upstream-name = ::zz", "upstream-name: '::zz' has no IPv6 address"),
    ],
)
def test_what_is_refused_of_tls(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "own.pem").write_text(PEM)
    (tmp_path / "own.key").write_text(KEY)
    (tmp_path / "locked.key").write_text(KEY.replace("PRIVATE", "ENCRYPTED PRIVATE"))
    (tmp_path / "large.pem").write_text(PEM * 2000)
    (tmp_path / "der.pem").write_bytes(b"\x30\x82\xff")
    assert reason.format(tmp_path) in problems(tmp_path, f"[vassal]\nupstream = https://h\n{text}\n")


def test_the_maintenance_page_is_part_of_what_was_read(tmp_path: Path) -> None:
    page = tmp_path / "sorry.txt"
    page.write_text("später")
    config = read(tmp_path, "[vassal]\nupstream = uwsgi://h:1\nmaintenance = sorry.txt\n")
    assert (config.upstreams.maintenance, config.upstreams.maintenance_type) == (
        "später",
        "text/plain; charset=utf-8",
    )
    # So that its change is one of the vassal's.
    assert str(page) in [each.path for each in config.sources]


@pytest.mark.parametrize(
    "line", ["upstream = uwsgi://h:1\nmaintenance = sorry.html", "wsgi-file = sorry.html"]
)
def test_a_file_that_is_not_there_yet_is_looked_for(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigError) as found:
        read(tmp_path, f"[vassal]\n{line}\n")
    # So that the vassal is read again once it is.
    assert str(tmp_path / "sorry.html") in [each.path for each in found.value.sources]
