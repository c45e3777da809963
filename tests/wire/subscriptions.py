"""Subscription packets (uWSGI ``core/subscription.c``): as a real uWSGI 2.0.31 has sent them, and hostile ones."""

from tests.wire.packets import block, packet, text

_hex = bytes.fromhex

REAL = {
    "subscribes": _hex(
        "e082000003006b65790d00706c61696e2e6578616d706c650700616464726573730f003132372e302e302e313a343431"
        "383709006d6f6469666965723101003009006d6f646966696572320100300500636f72657301003104006c6f61640100"
        "30060077656967687401003306006e6f7469667910002f72756e2f6e6f746966792e736f636b"
    ),
    "subscribes, signed": _hex(
        "e01d010003006b65790e007369676e65642e6578616d706c650700616464726573730f003132372e302e302e313a3434"
        "31383709006d6f6469666965723101003509006d6f646966696572320100300500636f72657301003104006c6f616401"
        "0030060077656967687401003306006e6f7469667910002f72756e2f6e6f746966792e736f636b0400756e69780a0031"
        "37393537393839323204007369676e80002c53f4c45090cc08324ce36e9fd0760d5d7aa0b41fd2ce5b5bba39c52ccad8"
        "b898f09a8dfe598f1a283e9557cdf6cf766a2602c39abc4a01a686514c8a861658b5320e022f7c3f4952d2c7893c5422"
        "4edc33f4e851b3a63df322ec395acc4b02cd674bac714e55fe90d29464b1a96636038293a5301975cecaf21a739f5cce"
        "9f"
    ),
    "subscribes, with keys for SNI": _hex(
        "e0bf000003006b65790b0074776f2e6578616d706c650700616464726573730f003132372e302e302e313a3434313837"
        "09006d6f6469666965723101003109006d6f646966696572320100320500636f72657301003104006c6f616401003006"
        "007765696768740100370700736e695f6b65790a002f6574632f6b2e70656d0700736e695f6372740a002f6574632f63"
        "2e70656d0600736e695f63610b002f6574632f63612e70656d06006e6f7469667910002f72756e2f6e6f746966792e73"
        "6f636b"
    ),
    "unsubscribes": _hex(
        "e082000103006b65790d00706c61696e2e6578616d706c650700616464726573730f003132372e302e302e313a343431"
        "383709006d6f6469666965723101003009006d6f646966696572320100300500636f72657301003104006c6f61640100"
        "30060077656967687401003706006e6f7469667910002f72756e2f6e6f746966792e736f636b"
    ),
    "unsubscribes, signed": _hex(
        "e01d010103006b65790e007369676e65642e6578616d706c650700616464726573730f003132372e302e302e313a3434"
        "31383709006d6f6469666965723101003509006d6f646966696572320100300500636f72657301003104006c6f616401"
        "0030060077656967687401003706006e6f7469667910002f72756e2f6e6f746966792e736f636b0400756e69780a0031"
        "37393537393839323304007369676e80004a38209af4ac90521190529a2eafe93053a3848d465da13e666e9f43513b8f"
        "018dbbf24edc4309caf56b056acc509c05bfb53644c256606a6816bf2981f05d14d69d657fb37d5727b3b59be12c74c2"
        "22e1b89e5ffa9fe943eae4bb6b9e73e111f0b37204deb0455c7a13aebc5da5d5abbc786cf83994bd63597c514d0ba941"
        "90"
    ),
    "unsubscribes, with keys for SNI": _hex(
        "e0bf000103006b65790b0074776f2e6578616d706c650700616464726573730f003132372e302e302e313a3434313837"
        "09006d6f6469666965723101003109006d6f646966696572320100320500636f72657301003104006c6f616401003006"
        "007765696768740100370700736e695f6b65790a002f6574632f6b2e70656d0700736e695f6372740a002f6574632f63"
        "2e70656d0600736e695f63610b002f6574632f63612e70656d06006e6f7469667910002f72756e2f6e6f746966792e73"
        "6f636b"
    ),
}
"""Of ``--subscribe-to`` (key plain.example), of the same with ``,5,SHA1:KEY`` (signed.example), and of ``--subscribe2`` with modifiers
1 and 2, weight 7 and the three files (two.example)."""

PUBLIC_KEY = b"""\
-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC4bom/a/pPuMXpRgdJSzqJBUl6
H2MGpFZPXTgrbiDJdA2iUR/c/ImGZ/i62M9wxWKyMCQjnWoMRPKvYiZNSqIVVHXF
o1KUyFp1VLAIfGSNusg2WEAUrte0ca6XvuaZkpvKKrDDtcw6RkhVzd5WL0hBDqnx
QIzYYBpPM6+c9g+HcQIDAQAB
-----END PUBLIC KEY-----
"""
"""Of the key that the two signed ones are signed with."""

NODE = ((b"key", b"a.example"), (b"address", b"127.0.0.1:3031"))
TIMED = (*NODE, (b"unix", b"1700000000"))


def subscription(*more: tuple[bytes, bytes], command: int = 0, pairs: tuple[tuple[bytes, bytes], ...] = NODE) -> bytes:
    """One of key a.example and address 127.0.0.1:3031, or of these pairs, and then these."""
    return packet(block((*pairs, *more)), 224, command)


REFUSED = {
    "nothing": (b"", "malformed"),
    "one byte": (b"\xe0", "malformed"),
    "a header that says more than is there": (subscription()[:-1], "malformed"),
    "a header that says less than is there": (subscription() + b"x", "malformed"),
    "a header that says 65,535 bytes, and nothing": (b"\xe0\xff\xff\0", "malformed"),
    "a key that goes past the end": (packet(block(NODE) + b"\xff\xff" + b"a", 224), "malformed"),
    "a value that goes past the end": (packet(block(NODE) + text(b"a") + b"\3\0" + b"bc", 224), "malformed"),
    "4,097 bytes": (subscription((b"x", b"y" * (4097 - len(subscription()) - 5))), "oversized"),
    "65,507 bytes, the most of a datagram": (subscription((b"x", b"y" * 60000)), "oversized"),
    "a request": (packet(block(((b"REQUEST_METHOD", b"GET"),))), "malformed"),
    "modifier1 225": (packet(block(NODE), 225), "malformed"),
    "command 2": (subscription(command=2), "malformed"),
    "command 255": (subscription(command=255), "malformed"),
    "no pairs": (packet(b"", 224), "malformed"),
    "no key": (subscription(pairs=NODE[1:]), "malformed"),
    "an empty key": (subscription(pairs=((b"key", b""), NODE[1])), "malformed"),
    "a key of 256 bytes": (subscription(pairs=((b"key", b"k" * 256), NODE[1])), "malformed"),
    "no address": (subscription(pairs=NODE[:1]), "malformed"),
    "an empty address": (subscription(pairs=(NODE[0], (b"address", b""))), "malformed"),
    "an address of 256 bytes": (subscription(pairs=(NODE[0], (b"address", b"/" * 256))), "malformed"),
    "two keys": (subscription((b"key", b"b.example")), "malformed"),
    "two addresses that agree": (subscription(NODE[1]), "malformed"),
    "a key that is there twice and means nothing": (subscription((b"x", b"1"), (b"x", b"2")), "malformed"),
    "a NUL in the key": (subscription(pairs=((b"key", b"a\0b"), NODE[1])), "malformed"),
    "a line end in the key": (subscription(pairs=((b"key", b"a\nb"), NODE[1])), "malformed"),
    "a blank in the address": (subscription(pairs=(NODE[0], (b"address", b"/run/a b"))), "malformed"),
    "a key that is no UTF-8": (subscription(pairs=((b"key", b"\xff"), NODE[1])), "malformed"),
    "a NUL in sni_key": (subscription((b"sni_key", b"/etc/a\0b")), "malformed"),
    "modifier1 256 for its requests": (subscription((b"modifier1", b"256")), "malformed"),
    "a modifier of letters": (subscription((b"modifier2", b"x")), "malformed"),
    "a weight below 0": (subscription((b"weight", b"-1")), "malformed"),
    "a weight with a sign": (subscription((b"weight", b"+1")), "malformed"),
    "an empty weight": (subscription((b"weight", b"")), "malformed"),
    "a weight of 19 digits": (subscription((b"weight", b"1" * 19)), "malformed"),
    "cores with a blank": (subscription((b"cores", b" 1")), "malformed"),
    "a time with an underscore": (subscription((b"unix", b"1_0")), "malformed"),
    "a signature without a time": (subscription((b"sign", b"s" * 128)), "malformed"),
    "a pair behind the signature": (subscription((b"sign", b"s" * 128), (b"weight", b"9"), pairs=TIMED), "malformed"),
    "two signatures": (subscription((b"sign", b"s"), (b"sign", b"t"), pairs=TIMED), "malformed"),
}
"""What is no subscription, and what it is counted as."""

HOSTS = {
    "a port": (b"a.example:8080", "a.example"),
    "capitals": (b"A.Example", "a.example"),
    "an address": (b"192.0.2.1", "192.0.2.1"),
    "an IPv6 address": (b"[2001:DB8::1]:80", "[2001:db8::1]"),
    "whatever is below": (b".example", "*.example"),
}
"""Keys of subscriptions, and whose requests these are."""
