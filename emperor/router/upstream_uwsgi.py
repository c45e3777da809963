"""What a uwsgi server is sent: the packet that our workers get, with its modifiers, and the body, one request per connection
(uWSGI ``proto/uwsgi.c``). And a ping."""

from typing import Final

from emperor.protocol import packet
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
        upstream = self.upstream
        if not upstream.modifier1 and not upstream.modifier2:
            return head.packet
        made = bytearray(head.packet)
        made[0] = upstream.modifier1
        made[3] = upstream.modifier2
        return bytes(made)
