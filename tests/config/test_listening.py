"""Listeners of a vassal's own, as its file asks for them."""

from pathlib import Path

import pytest

from emperor.config import ConfigError, load_vassal
from emperor.config.listening import Listener, Listening
from emperor.config.options import NAMES
from emperor.config.problems import Mistake


def listening(path: Path, *lines: str) -> Listening:
    file = path / "blog.ini"
    file.write_text("\n".join(["[uwsgi]", "module = app", *lines]) + "\n")
    return load_vassal(file, directory=path).listening


def refused(path: Path, *lines: str) -> str:
    with pytest.raises(ConfigError) as caught:
        listening(path, *lines)
    return str(caught.value)


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("/run/app.sock", "unix:/run/app.sock"),
        ("unix:/run/app.sock", "unix:/run/app.sock"),
        ("./app.sock", "unix:./app.sock"),
        ("app.sock", "unix:app.sock"),
        ("run/a:b.sock", "unix:run/a:b.sock"),
        ("@app", "@app"),
        ("127.0.0.1:3031", "127.0.0.1:3031"),
        (":3031", "0.0.0.0:3031"),
        ("*:3031", "0.0.0.0:3031"),
        ("localhost:3031", "127.0.0.1:3031"),
        (":0", "0.0.0.0:0"),
        ("[::1]:3031", "[::1]:3031"),
        ("[2001:DB8::0:1]:80", "[2001:db8::1]:80"),
    ],
)
def test_an_address_has_one_spelling(value: str, address: str) -> None:
    for name in ("socket", "uwsgi-socket", "http-socket", "http"):
        assert NAMES[name].parse(value) == address


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "needs an address"),
        (None, "needs an address"),
        ("3031", "a port is :3031"),
        (3031, "3031 is no address"),
        ("=0", "shared socket"),
        ("fd://3", "descriptor"),
        ("@", "between 1 and 106"),
        ("@" + "x" * 107, "between 1 and 106"),
        ("/" + "x" * 108, "107 bytes"),
        ("example.com:80", "names are not looked up"),
        ("127.0.0.1:x", "has no port"),
        ("127.0.0.1:65536", "has no port"),
        ("127.0.0.1:", "has no port"),
        ("256.0.0.1:80", "is no address"),
        ("::1:80", "stands in brackets"),
    ],
)
def test_what_is_no_address(value: object, reason: str) -> None:
    with pytest.raises(Mistake) as caught:
        NAMES["socket"].parse(value)
    assert reason in f"{caught.value.reason} {caught.value.hint}"


def test_both_forms_of_a_secure_address() -> None:
    parse = NAMES["https"].parse
    assert parse(":8443, a.crt,a.key") == ("0.0.0.0:8443", "a.crt", "a.key", "")
    assert parse("addr=:8443,cert=a,key=b,ciphers=HIGH,spdy=1") == ("0.0.0.0:8443", "a", "b", "HIGH")
    for value, reason in {
        ":8443": "needs a certificate",
        ":8443,a.crt": "needs a certificate",
        "cert=a,key=b": "needs a certificate",
        ":8443,a,b,HIGH,!ca.pem": "would open a door",
        ":8443,a,b,,ca.pem": "would open a door",
        "addr=:1,cert=a,key=b,client_ca=c": "would open a door",
        "addr=:1,cert=a,key=b,sni=c": "'sni' cannot be set",
        "=0,a.crt,a.key,HIGH": "shared socket",
        "": "needs a certificate",
    }.items():
        with pytest.raises(Mistake) as caught:
            parse(value)
        assert reason in caught.value.reason


def test_all_of_a_file(tmp_path: Path) -> None:
    found = listening(
        tmp_path,
        "socket = run/app.sock",
        "socket = :3031",
        "protocol = uwsgi",
        "http-socket = 127.0.0.1:0",
        "http = [::1]:0",
        "socket = 127.0.0.1:0",
        "https = :8443,tls/a.crt,/etc/a.key",
        "suwsgi-socket = @secure,tls/a.crt,tls/a.key",
        "chmod-socket",
        "chown-socket = root:daemon",
        "listen = 512",
        "uwsgi-trusted = unix, 10.0.0.0/8",
        "proxy-protocol = 10.0.0.1",
        "forwarded-allow = *",
    )
    assert found == Listening(
        (
            Listener("uwsgi", f"unix:{tmp_path}/run/app.sock"),
            Listener("uwsgi", "0.0.0.0:3031"),
            Listener("uwsgi", "127.0.0.1:0"),
            Listener("http", "127.0.0.1:0"),
            Listener("http", "[::1]:0"),
            Listener("http", "0.0.0.0:8443", f"{tmp_path}/tls/a.crt", "/etc/a.key"),
            Listener("uwsgi", "@secure", f"{tmp_path}/tls/a.crt", f"{tmp_path}/tls/a.key"),
        ),
        0o666,
        0,
        1,
        512,
        ("unix", "10.0.0.0/8"),
        ("10.0.0.1",),
        ("*",),
    )
    assert Listening.from_json(found.to_json()) == found
    with pytest.raises(ValueError, match="the listeners of a vassal"):
        Listening.from_json({"listeners": [{"odd": 1}]})


def test_what_is_there_without_a_word(tmp_path: Path) -> None:
    found = listening(tmp_path, "socket = a.sock", "protocol = http")
    assert found.listeners == (Listener("http", f"unix:{tmp_path}/a.sock"),)
    # As in uWSGI, only `socket` itself follows `protocol`.
    found = listening(tmp_path, "s = a.sock", "uwsgi-socket = b.sock", "protocol = http")
    assert [(each.kind, each.path) for each in found.listeners] == [
        ("http", f"{tmp_path}/a.sock"),
        ("uwsgi", f"{tmp_path}/b.sock"),
    ]
    found = listening(tmp_path)
    assert (found.mode, found.trusted, found.forwarded) == (
        0o660,
        ("unix", "abstract", "127.0.0.0/8", "::1"),
        None,
    )


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (("socket = :3031", "http = :3031"), "0.0.0.0:3031 is listened on twice"),
        (("socket = a", "socket = ./a"), "is listened on twice"),
        (("http = :0", "http = :0"), "0.0.0.0:0 is asked for twice to speak http: the two"),
        (("http = :0", "socket = :0", "protocol = http"), "is asked for twice to speak http"),
        (("uid = daemon", "http = :80"), "a port below 1024, and the app runs as uid 1"),
        (("uid = daemon", "socket = a", "chown-socket = nobody"), "cannot give it to uid"),
        (("socket = a", "chown-socket = nobody-at-all"), "there is no user"),
        (("socket = a", "chown-socket = :nobody-at-all"), "there is no group"),
        (("socket = a", "chown-socket = a:b:c"), "more than one colon"),
        (("socket = a", "chmod-socket = 888"), "no file mode"),
        (("socket = a", "chmod-socket = rw"), "no file mode"),
        (("protocol = fastcgi",), "none of uwsgi, http"),
        (("uwsgi-trusted = localhost",), "'localhost' is no address"),
        (("listen = 0",), "out of range"),
        (tuple(f"socket = :{port}" for port in range(2000, 2065)), "more than 64 listeners"),
    ],
)
def test_what_is_refused(tmp_path: Path, lines: tuple[str, ...], reason: str) -> None:
    assert reason in refused(tmp_path, *lines)


def test_toml(tmp_path: Path) -> None:
    file = tmp_path / "blog.toml"
    file.write_text(
        '[vassal]\nmodule = "app"\nsocket = ["a.sock", ":3031"]\nchmod-socket = 664\nproxy-protocol = ["::1", "unix"]\n'
    )
    found = load_vassal(file, directory=tmp_path).listening
    assert [each.address for each in found.listeners] == [f"unix:{tmp_path}/a.sock", "0.0.0.0:3031"]
    assert (found.mode, found.proxies) == (0o664, ("::1", "unix"))
