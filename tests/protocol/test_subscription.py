"""Subscription packets: what a real uWSGI sends is read, anything else is refused, what is built reads as it was."""

import dataclasses

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from emperor.protocol import packet, subscription
from emperor.protocol.subscription import SUBSCRIBE, UNSUBSCRIBE, Subscription, SubscriptionError
from tests.wire import subscriptions as wire

NAMES = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=60)
NUMBERS = st.integers(0, 10**18 - 1)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=100)
SUBSCRIPTIONS = st.builds(
    Subscription,
    command=st.sampled_from((SUBSCRIBE, UNSUBSCRIBE)),
    key=NAMES,
    address=NAMES,
    modifier1=st.integers(0, 255),
    modifier2=st.integers(0, 255),
    cores=NUMBERS,
    load=NUMBERS,
    weight=NUMBERS,
    backup=NUMBERS,
    sni_key=TEXTS,
    sni_crt=TEXTS,
    sni_ca=TEXTS,
    notify=TEXTS,
    algo=TEXTS,
    proto=TEXTS,
    vassal=TEXTS,
)


@pytest.mark.parametrize("name", wire.REAL)
def test_what_a_real_uwsgi_sends(name: str) -> None:
    found = subscription.parse(wire.REAL[name])
    assert found.command == (UNSUBSCRIBE if name.startswith("unsubscribes") else SUBSCRIBE)
    assert found.address.startswith("127.0.0.1:")
    assert (found.cores, found.load, found.notify) == (1, 0, "/run/notify.sock")
    if "signed" in name:
        assert (found.key, found.modifier1, len(found.sign)) == ("signed.example", 5, 128)
        assert found.unix > 1_700_000_000
        assert found.signed.endswith(str(found.unix).encode())
    elif "SNI" in name:
        assert (found.key, found.modifier1, found.modifier2, found.weight) == ("two.example", 1, 2, 7)
        assert (found.sni_key, found.sni_crt, found.sni_ca) == ("/etc/k.pem", "/etc/c.pem", "/etc/ca.pem")
    else:
        assert (found.key, found.sign, found.signed, found.unix) == ("plain.example", b"", b"", 0)


@pytest.mark.parametrize("name", wire.REAL)
def test_what_is_built_is_byte_by_byte_what_a_real_uwsgi_sends(name: str) -> None:
    found = subscription.parse(wire.REAL[name])
    sign = (lambda _: found.sign) if found.sign else None
    assert subscription.build(found, sign) == wire.REAL[name]


@pytest.mark.parametrize("name", wire.REFUSED)
def test_what_is_refused(name: str) -> None:
    sent, cause = wire.REFUSED[name]
    with pytest.raises(SubscriptionError) as refusal:
        subscription.parse(sent)
    assert refusal.value.cause == cause
    assert str(refusal.value)


@pytest.mark.parametrize("size", range(0, len(wire.REAL["subscribes"]), 7))
def test_a_truncated_one_is_refused_wherever_it_ends(size: int) -> None:
    with pytest.raises(SubscriptionError):
        subscription.parse(wire.REAL["subscribes"][:size])


@given(SUBSCRIPTIONS)
def test_what_is_built_reads_as_it_was(made: Subscription) -> None:
    assert subscription.parse(subscription.build(made)) == made


@given(SUBSCRIPTIONS, st.integers(1, 10**18 - 1), st.binary(min_size=1, max_size=512))
def test_a_signature_signs_what_stands_before_it(made: Subscription, unix: int, sign: bytes) -> None:
    asked: list[bytes] = []

    def signer(data: bytes) -> bytes:
        asked.append(data)
        return sign

    sent = subscription.build(dataclasses.replace(made, unix=unix), signer)
    found = subscription.parse(sent)
    assert asked == [found.signed]
    assert dataclasses.replace(found, sign=b"", signed=b"") == dataclasses.replace(made, unix=unix)
    assert found.sign == sign


@given(st.binary(max_size=300))
@example(packet.encode([(b"sign", b"x"), (b"unix", b"1")], 224))
def test_whatever_the_bytes_are(block: bytes) -> None:
    sent = b"\xe0" + len(block).to_bytes(2, "little") + b"\0" + block
    try:
        found = subscription.parse(sent)
    except SubscriptionError:
        return
    assert 0 < len(found.key.encode()) <= 255 and 0 < len(found.address.encode()) <= 255


def test_one_that_does_not_fit_is_not_built() -> None:
    with pytest.raises(ValueError, match="at most 4096"):
        subscription.build(Subscription(key="a", address="b", sni_key="k" * 4000, sni_crt="c" * 100))


def test_the_name_of_a_keys_file() -> None:
    assert subscription.sanitized("A-b_c.example:80") == "A-b_c.example_80"
    assert subscription.sanitized("../etc/x") == ".._etc_x"
    assert subscription.sanitized("ü") == "_"
