"""Signatures of subscriptions: what a real uWSGI has signed is known, and nothing else."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from emperor.config.subscribing import digest_of
from emperor.protocol import subscription
from emperor.protocol.subscription import Subscription
from emperor.router import signatures
from emperor.router.signatures import Keys
from tests.wire import subscriptions as wire

SIGNED = subscription.parse(wire.REAL["subscribes, signed"])


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    (tmp_path / "signed.example.pem").write_bytes(wire.PUBLIC_KEY)
    return Keys("SHA1", str(tmp_path))


@pytest.mark.parametrize("name", ["subscribes, signed", "unsubscribes, signed"])
def test_what_a_real_uwsgi_has_signed(keys: Keys, name: str) -> None:
    assert keys.why_not(subscription.parse(wire.REAL[name])) is None


@pytest.mark.parametrize("at", [8, 30, 60, 150, 160, 280])
def test_a_changed_byte_is_seen(keys: Keys, at: int) -> None:
    sent = bytearray(wire.REAL["subscribes, signed"])
    sent[at] ^= 1
    try:
        found = subscription.parse(bytes(sent))
    except subscription.SubscriptionError:
        return
    why = keys.why_not(replace(found, key="signed.example"))
    assert why is not None and why[0] == "signature"


def test_of_another_digest_or_another_key(keys: Keys, tmp_path: Path) -> None:
    assert Keys("SHA256", str(tmp_path)).why_not(SIGNED) == (
        "signature",
        f"its signature is not that of {tmp_path}/signed.example.pem (SHA256)",
    )
    other = rsa.generate_private_key(65537, 1024).public_key()
    (tmp_path / "signed.example.pem").write_bytes(
        other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    why = keys.why_not(SIGNED)
    assert why is not None and why[0] == "signature"


def test_a_key_is_read_again_when_its_file_is_another(keys: Keys, tmp_path: Path) -> None:
    assert keys.why_not(SIGNED) is None
    file = tmp_path / "signed.example.pem"
    file.unlink()
    why = keys.why_not(SIGNED)
    assert why is not None and why[0] == "key" and "No such file" in why[1]
    file.write_bytes(wire.PUBLIC_KEY)
    assert keys.why_not(SIGNED) is None


@pytest.mark.parametrize("content", [b"", b"no key", b"x" * 70000, wire.PUBLIC_KEY[:100]])
def test_a_file_that_has_no_key(keys: Keys, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "signed.example.pem").write_bytes(content)
    why = keys.why_not(SIGNED)
    assert why is not None and why[0] == "key"


def test_a_pipe_in_the_place_of_a_key_holds_nobody_up(keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "signed.example.pem").unlink()
    os.mkfifo(tmp_path / "signed.example.pem")
    why = keys.why_not(SIGNED)
    assert why is not None and why[0] == "key"


def test_a_key_cannot_lead_out_of_its_directory(keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "outside.pem").write_bytes(wire.PUBLIC_KEY)
    found = Keys("SHA1", str(tmp_path / "keys")).why_not(replace(SIGNED, key="../outside"))
    assert found is not None and found[0] == "key"


@pytest.mark.parametrize(
    "key", [rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP256R1())]
)
@pytest.mark.parametrize("digest", ["SHA1", "SHA256", "MD5"])
def test_what_we_sign_we_know(tmp_path: Path, key: object, digest: str) -> None:
    private = signatures.private_key(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # type: ignore[attr-defined]
    )
    (tmp_path / "a.example.pem").write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    )
    made = Subscription(key="a.example", address="127.0.0.1:1", unix=1_700_000_000)
    sent = subscription.build(made, lambda data: signatures.signature(private, digest, data))
    assert Keys(digest, str(tmp_path)).why_not(subscription.parse(sent)) is None


def test_names_of_digests() -> None:
    names = {"sha1": "SHA1", "SHA-256": "SHA256", "RSA-SHA512": "SHA512", "md5": "MD5", "md4": "", "": ""}
    assert {name: digest_of(name) for name in names} == names


@pytest.mark.parametrize("pem", [b"", wire.PUBLIC_KEY])
def test_what_is_no_private_key(pem: bytes) -> None:
    with pytest.raises(ValueError, match="no private key"):
        signatures.private_key(pem)


def test_who_owns_a_keys_file(tmp_path: Path) -> None:
    (tmp_path / "a.example").touch()
    status = (tmp_path / "a.example").stat()
    directories = (str(tmp_path / "none"), str(tmp_path))
    assert signatures.owns(directories, "a.example", status.st_uid, status.st_gid)
    assert not signatures.owns(directories, "a.example", status.st_uid + 1, status.st_gid)
    assert not signatures.owns(directories, "a.example", status.st_uid, status.st_gid + 1)
    assert not signatures.owns(directories, "b.example", status.st_uid, status.st_gid)
    assert not signatures.owns(directories, "..", status.st_uid, status.st_gid)
