"""The settings of the subscription server, from every source to the router's flags."""

from pathlib import Path

import pytest

from emperor.config import ConfigError, load_vassal
from emperor.config.loading import VassalConfig
from emperor.config.problems import Mistake
from emperor.config.settings import RouterSettings, as_arguments, from_flags
from emperor.config.sources import load_settings
from emperor.config.subscribing import sign_check, uids


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("SHA1:/etc/keys", "SHA1:/etc/keys"),
        ("sha-256:/etc/keys", "SHA256:/etc/keys"),
        ("RSA-SHA512:/k", "SHA512:/k"),
        ("md5:/a:b", "MD5:/a:b"),
    ],
)
def test_digest_and_directory(said: str, means: str) -> None:
    assert sign_check(said) == means


@pytest.mark.parametrize(
    "said", ["", "SHA1", "SHA1:", "SHA1:keys", "MD4:/k", "/etc/keys", "SHA1:/a\0", 3, None]
)
def test_what_is_no_digest_and_directory(said: object) -> None:
    with pytest.raises(Mistake):
        sign_check(said)


def test_numbers_of_users() -> None:
    assert [uids(each) for each in ("1000", "1000, 1001", 0, [1, 2], "007")] == [
        "1000",
        "1000 1001",
        "0",
        "1 2",
        "7",
    ]


@pytest.mark.parametrize("said", ["", "root", "-1", "4294967295", True, [], "1.5"])
def test_what_is_no_number_of_a_user(said: object) -> None:
    with pytest.raises(Mistake):
        uids(said)


def test_all_of_them_in_a_file_reach_the_router_as_flags(tmp_path: Path) -> None:
    file = tmp_path / "emperor.toml"
    file.write_text(
        'subscription-server = ["127.0.0.1:7000", "unix:/run/s"]\n'
        'subscription-tolerance = "20s"\nsubscription-allow = ["10.0.0.0/8", "unix"]\n'
        'subscriptions-sign-check = "SHA256:/etc/keys"\nsubscriptions-sign-check-tolerance = "1m"\n'
        'subscriptions-sign-skip-uid = [33, 1000]\nsubscriptions-credentials-check = ["owners"]\n'
    )
    found = load_settings({}, {}, str(file), "/")
    assert found.emperor.subscription_server == ("127.0.0.1:7000", "unix:/run/s")
    assert found.router == RouterSettings(
        subscription_tolerance_s=20.0,
        subscription_allow=("10.0.0.0/8", "unix"),
        subscriptions_sign_check="SHA256:/etc/keys",
        subscriptions_sign_check_tolerance_s=60.0,
        subscriptions_sign_skip_uid="33 1000",
        subscriptions_credentials_check=(str(tmp_path / "owners"),),
    )
    assert from_flags(RouterSettings, as_arguments(found.router)) == found.router


def test_uwsgis_name_of_the_server_and_a_wrong_one(tmp_path: Path) -> None:
    (tmp_path / "emperor.ini").write_text("[emperor]\nhttp-subscription-server = 127.0.0.1:7000\n")
    found = load_settings({}, {}, str(tmp_path / "emperor.ini"), "/")
    assert found.emperor.subscription_server == ("127.0.0.1:7000",)
    with pytest.raises(ConfigError, match="digest"):
        load_settings({"subscriptions-sign-check": ("/etc/keys",)}, {}, None, "/")


def vassal(tmp_path: Path, *lines: str) -> VassalConfig:
    (tmp_path / "old.ini").write_text("\n".join(("[uwsgi]", *lines)))
    return load_vassal(tmp_path / "old.ini", directory=tmp_path)


def test_a_vassal_whose_backends_are_those_who_subscribe(tmp_path: Path) -> None:
    found = vassal(tmp_path, "domain = old.test", "subscriptions = true", "upstream-first-byte-timeout = 5s")
    assert (found.upstreams.subscriptions, found.upstreams.upstreams, found.processes) == (True, (), 0)
    assert bool(found.upstreams) and found.upstreams.first_byte_s == 5.0 and not found.warnings
    both = vassal(tmp_path, "subscriptions = true", "upstream = uwsgi://127.0.0.1:3031 backup")
    assert both.upstreams.subscriptions and len(both.upstreams.upstreams) == 1
    assert not vassal(tmp_path, "subscriptions = false", "module = app").upstreams


def test_one_that_has_an_app_takes_no_subscriptions(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="subscriptions: excludes module"):
        vassal(tmp_path, "subscriptions = true", "module = app")
    with pytest.raises(ConfigError, match="names no app"):
        vassal(tmp_path, "subscriptions = false")
