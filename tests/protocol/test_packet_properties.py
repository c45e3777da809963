"""Three readers of uwsgi packets: the plain codec, the one at the front door, the worker's. They agree, or all refuse."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emperor.protocol import packet
from emperor.protocol.environ import environ
from emperor.protocol.errors import PacketError
from tests.wire import packets as wire


@settings(max_examples=300)
@given(
    st.sampled_from([row.sent for row in wire.ADMITTED if len(row.sent) < 2000]),
    st.integers(0, 2000),
    st.binary(max_size=3),
)
def test_a_changed_packet_is_refused_or_read_by_all_alike(sent: bytes, at: int, change: bytes) -> None:
    at = 4 + at % (len(sent) - 4)
    block = (sent[:at] + change + sent[at + 1 :])[4:]
    changed = wire.packet(block)
    try:
        _, _, pairs = packet.decode(changed)
    except PacketError:
        for read in (packet.admit, environ):
            with pytest.raises(PacketError):
                read(changed)
        return
    variables, end = environ(changed)
    assert end == len(changed)
    assert variables == {key.decode("latin-1"): value.decode("latin-1") for key, value in pairs}
