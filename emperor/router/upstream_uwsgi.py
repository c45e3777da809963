"""What a uwsgi server is sent: the packet that our workers get, with its modifiers, and the body, one request per connection
(uWSGI ``proto/uwsgi.c``). And a ping."""

from typing import Final

from emperor.protocol import packet
from emperor.protocol.errors import PacketError
from emperor.protocol.packet import RequestHead
from emperor.router.exchange import Exchange
from emperor.router.upstream_link import UpstreamLink

PING: Final = packet.encode((), 100)


def is_pong(answer: bytes) -> bool:
    """Well, by the first four bytes: modifier1 100, modifier2 1, and no warning behind them (uWSGI ``plugins/ping``)."""
    return len(answer) >= 4 and answer[0] == 100 and answer[3] == 1 and answer[1:3] == b"\0\0"


class UwsgiLink(UpstreamLink):
    """A connection to a uwsgi server."""

    cgi = True

    def request(self, exchange: Exchange) -> bytes:
        head = exchange.head
        self.replies.expect(is_head=head.is_head, upgrade=head.websocket)
        made = bytearray(_told(head, self.owner.via))
        made[0] = self.upstream.modifier1
        made[3] = self.upstream.modifier2
        return bytes(made)


def _told(head: RequestHead, via: bytes) -> bytes:
    """The packet, with how the request came, and with what a client says who asks for a WebSocket: our workers know that
    without it, apps behind a uWSGI look for it. One without room stays as it is: a loop makes it longer each time, and is
    found by its end."""
    known = packet.variables(head.packet).get(b"HTTP_VIA") if b"HTTP_VIA" in head.packet else None
    said: dict[bytes, bytes | None] = {b"HTTP_VIA": known + b", " + via if known else via}
    if head.websocket:
        said |= {b"HTTP_UPGRADE": b"websocket", b"HTTP_CONNECTION": b"Upgrade"}
    if known or head.websocket:
        try:
            return packet.altered(head, said).packet
        except PacketError:
            return head.packet
    added = head.packet[4:] + packet.encode_vars([(b"HTTP_VIA", via)])
    if len(added) > 65535:
        return head.packet
    return b"\0" + len(added).to_bytes(2, "little") + b"\0" + added
