"""docs/specs/bad-input.md, row by row, against a running router. The page says what must come; here is only what is sent."""

import json
import os
import re
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emperor.control.channel import Channel, ControlError
from emperor.protocol import packet, records
from emperor.protocol.records import FIN, NO_WORD
from tests.router.client import Connection, CutShort, chunked, get, post, request, uwsgi
from tests.router.stage import Stage, Vassal
from tests.router.worker import FakeWorker, Request
from tests.scenarios.harness.waiting import wait_for

PAGE = Path(__file__).parents[2] / "docs" / "specs" / "bad-input.md"
DASH = "–"


def table(section: str) -> list[tuple[str, str, str]]:
    """The rows of the page's table under this heading."""
    text = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    (body,) = [part for part in text if part.startswith(section + "\n")]
    rows = [line.strip("| ").split(" | ") for line in body.splitlines() if line.startswith("| ")]
    return [(row[0], row[1], row[2]) for row in rows[2:]]


def rows(section: str) -> pytest.MarkDecorator:
    found = table(section)
    return pytest.mark.parametrize(("what", "answer", "then"), found, ids=[row[0] for row in found])


def line(*fields: str, first: str = "GET / HTTP/1.1", host: str = "Host: blog.localhost") -> bytes:
    return "\r\n".join([first, host, *fields, "", ""]).encode("latin-1")


def body(encoded: bytes, host: str = "blog.localhost") -> bytes:
    return request(host, "/", "Transfer-Encoding: chunked", method="POST") + encoded


EXPECTS = ("Content-Length: 2000", "Expect: 100-continue")

# What is sent to the HTTP listener. A function gets a vassal that has a worker, and returns its client.
HTTP: dict[str, bytes | Callable[[Vassal], Connection]] = {
    "a line that ends in a bare LF": b"GET / HTTP/1.1\r\nHost: blog.localhost\nX: 1\r\n\r\n",
    "a request line that ends in a bare LF": b"GET / HTTP/1.1\nHost: blog.localhost\r\n\r\n",
    "a CR that no LF follows": line("X: a\rY: b"),
    "a folded header line (obs-fold)": line("X: a", " b"),
    "a NUL in a header value": line("X: a\0b"),
    "another control character in a header value": line("X: a\x7fb"),
    "a NUL in the request line": line(first="GET /\0 HTTP/1.1"),
    "white space before a header's colon": line("Content-Length : 0"),
    "a header line without a colon": line("X"),
    "a header line without a name": line(": x"),
    "a request line of one word": line(first="GET"),
    "a request line without a version": line(first="GET /"),
    "a blank in the request target": line(first="GET /a b HTTP/1.1"),
    "a method that is no token": line(first="G(T / HTTP/1.1"),
    "an encoded NUL in the path": line(first="GET /a%00b HTTP/1.1"),
    "a target that is neither a path nor an http URL": line(first="GET ftp://blog.localhost/ HTTP/1.1"),
    "nine empty lines before the request": b"\r\n" * 9 + get(),
    "no Host in HTTP/1.1": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": line("Host: blog.localhost"),
    "a Host that is no host": line(host="Host: blog.localhost/../"),
    "two Content-Lengths that differ": line("Content-Length: 0", "Content-Length: 5"),
    "two Content-Lengths that agree": line("Content-Length: 0", "Content-Length: 0"),
    "a Content-Length that is a list": line("Content-Length: 0, 0"),
    "a Content-Length with a sign": line("Content-Length: +5"),
    "a Content-Length of letters": line("Content-Length: 0x5"),
    "an empty Content-Length": line("Content-Length:"),
    "a Content-Length of 19 digits": line("Content-Length: 9999999999999999999"),
    "Content-Length and Transfer-Encoding": line("Content-Length: 5", "Transfer-Encoding: chunked"),
    "two Transfer-Encodings": line("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    "Transfer-Encoding in HTTP/1.0": line("Transfer-Encoding: chunked", first="POST / HTTP/1.0"),
    "a Transfer-Encoding in which chunked is not the last": line("Transfer-Encoding: chunked, gzip"),
    "a body that is chunked twice": line("Transfer-Encoding: chunked, chunked"),
    "a transfer coding that is not chunked": line("Transfer-Encoding: gzip"),
    "a method of more than 32 letters": line(first=f"{'G' * 33} / HTTP/1.1"),
    "an https URL as the target": line(first="GET https://blog.localhost/ HTTP/1.1"),
    "TRACE with a body": line("Content-Length: 5", first="TRACE / HTTP/1.1"),
    "a POST or PUT without a length in HTTP/1.0": line(first="POST / HTTP/1.0"),
    "CONNECT": line(first="CONNECT blog.localhost:443 HTTP/1.1"),
    "an HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an expectation other than 100-continue": line("Expect: a-miracle"),
    "a request line of more than 16 KiB": line(first=f"GET /{'x' * 16400} HTTP/1.1"),
    "a head of more than 64 KiB": line(*[f"X-{index}: {'x' * 8000}" for index in range(9)]),
    "more than 100 header lines": line(*[f"X-{index}: x" for index in range(101)]),
    "a head that does not fit into a packet": line(*[f"X-{index}: {'x' * 8165}" for index in range(8)]),
    "a header name of more than 120 bytes": line(f"{'X' * 121}: x"),
    "a Connection that names more than 100 fields": line("Connection: " + "a," * 101),
    "a head that is not whole within 15 s": b"GET / HTTP/1.1\r\nHost: blog.loc",
    "a byte that begins no method": b"\0",
    "TLS": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    "not a byte within 15 s": b"",
    "nothing for 75 s between two requests": lambda blog: answered(blog.stage.http(get()), 200),
    "half a head and then the end": lambda blog: ended(blog.stage.http(get()[:-10])),
    "a name that no vassal answers to": get("nobody.test"),
    "the same, with a body of up to 256 KiB": post(bytes(256 * 1024), "nobody.test"),
    "the same, with a longer body": request("nobody.test", "/", "Content-Length: 300000", method="POST"),
    "the same, with a chunked body": body(chunked(b"abc"), "nobody.test"),
    "the same, waiting for 100 Continue": request("nobody.test", "/", *EXPECTS, method="POST"),
    "a body over body-limit, of up to 256 KiB": lambda blog: limited(blog, post(bytes(1001))),
    "a longer body over body-limit": lambda blog: limited(
        blog, request("blog.localhost", "/", "Content-Length: 300000", method="POST")
    ),
    "a chunked body over body-limit": lambda blog: limited(blog, body(b"3e9\r\n" + bytes(1001))),
    "a body over body-limit, waiting for 100 Continue": lambda blog: limited(
        blog, request("blog.localhost", "/", *EXPECTS, method="POST")
    ),
    "a chunk size that is no number": body(b"xyz\r\n"),
    "an empty chunk size": body(b"\r\n"),
    "a chunk size of 16 digits": body(b"1000000000000000\r\n"),
    "a chunk size line that ends in a bare LF": body(b"3\nabc\r\n"),
    "white space behind a chunk size": body(b"3 \r\nabc\r\n"),
    "a chunk that is longer than its size": body(b"3\r\nabcd\r\n"),
    "a chunk extension with a control character": body(b"3;a=\0\r\nabc\r\n"),
    "a chunk size line of more than 256 bytes": body(b"3;" + b"a" * 300),
    "chunk extensions of more than 16 KiB in all": body((b"1;" + b"e" * 200 + b"\r\na\r\n") * 90),
    "a trailer without a name": body(b"0\r\n: x\r\n\r\n"),
    "trailers of more than 8 KiB": body(b"0\r\n" + b"X: " + b"x" * 9000),
    "a body of which no byte comes for 60 s": post(b"abc")[:-1],
    "half a body and then the end": lambda blog: ended(blog.stage.http(post(b"abc")[:-1])),
    "a request when the queue is full": lambda blog: crowded(blog, queue=0),
    "a request that waits longer than queue-timeout": lambda blog: crowded(blog, queue_timeout_s=0.1),
    "a request that is not answered within request-timeout": lambda blog: crowded(
        blog, request_timeout_s=0.1
    ),
    "a request that holds its worker for longer than harakiri": lambda blog: held(blog),
    "a request that has ended two workers": lambda blog: poisonous(blog),
    "a request for a vassal that has not been ready": lambda blog: crowded(blog, available=False),
    "header names with an underscore (dropped)": line("X_Y: 1", "Content_Length: 5"),
    "a Proxy header (dropped)": line("Proxy: http://evil.test"),
    "a header that Connection names (dropped)": line("Connection: X-Hop", "X-Hop: 1"),
}

SLOW = {
    "a head that is not whole within 15 s",
    "not a byte within 15 s",
    "nothing for 75 s between two requests",
    "a body of which no byte comes for 60 s",
    "a packet that is not whole within 15 s",
}


def answered(client: Connection, status: int) -> Connection:
    assert client.response().status == status
    return client


def ended(client: Connection) -> Connection:
    client.half_close()
    return client


def limited(blog: Vassal, sends: bytes, *, packets: bool = False) -> Connection:
    blog.tell(body_limit=1000)
    return blog.stage.uwsgi(sends) if packets else blog.stage.http(sends)


def crowded(blog: Vassal, **entry: Any) -> Connection:
    """A request for a vassal whose workers have gone, or that never had any."""
    other = blog.stage.vassal("crowded", **entry)
    client = blog.stage.http(get("crowded.localhost"))
    assert other.stats()["links"] == []
    return client


def held(blog: Vassal) -> Connection:
    """A request that another vassal's worker has begun, and does not end."""
    other = blog.stage.vassal("held", deadlines={"harakiri_s": 0.1})
    worker = other.active(seats=1).worker()
    client = blog.stage.http(get("held.localhost"))
    worker.take()
    return client


def poisonous(blog: Vassal) -> Connection:
    other = blog.stage.vassal("held", deadlines={"harakiri_s": 0.1})
    generation = other.active(seats=2)
    for seat in (0, 1):
        worker = generation.worker(seat)
        client = blog.stage.http(get("held.localhost"))
        worker.take()
        answered(client, 504)
    return blog.stage.http(get("held.localhost"))


@pytest.fixture
def router(what: str, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The shared router; one with short deadlines for what would take long."""
    stage: Stage = request.getfixturevalue("short" if what in SLOW else "shared")
    with stage.scene():
        yield stage


@rows("HTTP")
def test_http(router: Stage, what: str, answer: str, then: str) -> None:
    blog = router.vassal("blog")
    worker = blog.active().answering()
    sends = HTTP[what]
    client = router.http(sends) if isinstance(sends, bytes) else sends(blog)
    if answer == DASH:
        assert client.end() == then
        return
    response = client.response()
    assert response.status == int(answer)
    assert response.closes == (then == "closed")
    if then == "closed":
        assert client.end() == "closed"
    else:
        client.send(get(path="/after"))
        assert client.response().body == b"GET /after 0"
    if answer == "200":
        assert not {"HTTP_PROXY", "HTTP_X_Y", "HTTP_CONTENT_LENGTH", "CONTENT_LENGTH"} & set(
            worker.seen[0].variables
        )


PIPELINED = [
    row for row in table("HTTP") if isinstance(HTTP[row[0]], bytes) and row[0] not in SLOW and row[1] != DASH
]


@pytest.mark.parametrize(("what", "answer", "then"), PIPELINED, ids=[row[0] for row in PIPELINED])
def test_http_behind_another(shared: Stage, what: str, answer: str, then: str) -> None:
    """The same bytes in one write with a request before them, that has a body of its own."""
    with shared.scene():
        shared.vassal("blog").active().answering()
        sends = HTTP[what]
        assert isinstance(sends, bytes)
        client = shared.http(post(b"ahead", path="/ahead") + sends)
        assert client.response().body == b"POST /ahead 5"
        response = client.response()
        assert (response.status, response.closes) == (int(answer), then == "closed")
        if then == "closed":
            assert client.end() == "closed"


# What a worker does with its request.
Act = Callable[[FakeWorker, Request], None]


def half(worker: FakeWorker, request: Request) -> None:
    worker.respond(request, body=b"half of it", fin=False)


def half_then(worker: FakeWorker, request: Request, act: Callable[..., None], *arguments: Any) -> None:
    half(worker, request)
    act(*arguments)


def die(worker: FakeWorker, request: Request) -> None:
    raise NotImplementedError("done by a process of its own")


RESPONSES: dict[str, Act | list[Act]] = {
    "a head with a CR, LF or NUL in it": [
        lambda worker, request, bad=bad: worker.respond(request, f"200 OK\r\nX: a{bad}b\r\n", b"secret")  # type: ignore[misc]
        for bad in ("\r", "\n", "\0")
    ],
    "a head without a final status": lambda worker, request: worker.respond(request, "100 Continue\r\n"),
    "a head with two Content-Lengths": lambda worker, request: worker.respond(
        request, "200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n", b"x"
    ),
    "an ABORT before a head": lambda worker, request: worker.abort(request),
    "an ABORT after a head": lambda worker, request: half_then(worker, request, worker.abort, request),
    "the worker killed before a head": die,
    "the worker killed after a head": die,
    "a link fault before a head": lambda worker, request: worker.send(b"?"),
    "a link fault after a head": lambda worker, request: half_then(worker, request, worker.send, b"?"),
    "a body shorter than its Content-Length": lambda worker, request: worker.respond(
        request, "200 OK\r\nContent-Length: 100\r\n", b"short"
    ),
    "a body longer than its Content-Length (cut there)": lambda worker, request: worker.respond(
        request, "200 OK\r\nContent-Length: 4\r\n", b"longer"
    ),
}


@rows("Responses of a worker")
def test_responses(stage: Stage, what: str, answer: str, then: str) -> None:
    acts = RESPONSES[what]
    for act in acts if isinstance(acts, list) else [acts]:
        blog = stage.vassal("blog")
        client = stage.http(get())
        if act is die:
            remote = blog.active().remote()
            remote.call("join")
            taken = remote.call("take")
            if "after" in what:
                remote.call("respond", taken, body="half", fin=False)
                response = client.head()
            remote.kill()
        else:
            worker = blog.active().worker()
            act(worker, worker.take())
        if then == "reset":
            if act is not die:
                response = client.head()
            with pytest.raises(CutShort) as cut:
                client.read_exactly(1000)
            assert cut.value.how == "reset"
        else:
            response = client.response()
            assert b"secret" not in response.body
        assert response.status == int(answer)
        if then == "lives":
            assert not response.closes
            client.send(get("nobody.test"))
            assert client.response().status == 404
        elif then == "closed":
            assert client.end() == "closed"
        stage.tell("remove", name="blog")
        os.unlink(stage.vassals.pop("blog").endpoint)


def packed(raw: bytes, modifier1: int = 0) -> bytes:
    return struct.pack("<BHB", modifier1, len(raw), 0) + raw


def variables(*pairs: tuple[bytes, bytes]) -> bytes:
    return packet.encode([(b"REQUEST_METHOD", b"GET"), (b"HTTP_HOST", b"blog.localhost"), *pairs])


UWSGI: dict[str, bytes | Callable[[Vassal], Connection]] = {
    "less than a header and then the end": lambda blog: ended(blog.stage.uwsgi(b"\0\x10")),
    "less than its size and then the end": lambda blog: ended(blog.stage.uwsgi(uwsgi()[:-5])),
    "a packet that is not whole within 15 s": uwsgi()[:-5],
    "a key length that goes past the packet": packed(b"\1"),
    "a key that goes past the packet": packed(b"\x09\0KEY"),
    "a value length that goes past the packet": packed(b"\3\0KEY\1"),
    "a value that goes past the packet": packed(b"\3\0KEY\xff\xffvalue"),
    "an empty key": packed(b"\0\0\0\0"),
    "no variables at all": packed(b""),
    "no REQUEST_METHOD": packet.encode([(b"HTTP_HOST", b"blog.localhost")]),
    "a REQUEST_METHOD that is no method": uwsgi(REQUEST_METHOD="G T"),
    "a CONTENT_LENGTH that is no length": uwsgi(CONTENT_LENGTH="many"),
    "a negative CONTENT_LENGTH": uwsgi(CONTENT_LENGTH="-1"),
    "two CONTENT_LENGTHs that differ": variables((b"CONTENT_LENGTH", b"1"), (b"CONTENT_LENGTH", b"2")),
    "an HTTP_HOST that is no host": uwsgi("blog.localhost/x"),
    "variables that do not fit once the defaults are added": variables((b"X", b"x" * 65450)),
    "modifier1 5 (another plugin)": packed(b"", 5),
    "modifier1 100 with modifier2 1 (the reply to a ping)": b"\x64\0\0\1",
    "modifier1 173 (a remote call)": packed(b"\4\0func", 173),
    "HTTP sent to the uwsgi socket": get(),
    "TLS sent to the uwsgi socket": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    "a line of some other protocol": b"SSH-2.0-OpenSSH_9.9\r\n",
    "a name that no vassal answers to": uwsgi("nobody.test"),
    "a body over body-limit": lambda blog: limited(blog, uwsgi(body=bytes(1001)), packets=True),
    "a body of which no byte comes for 60 s": uwsgi(body=b"abc")[:-1],
    "half a body and then the end": lambda blog: ended(blog.stage.uwsgi(uwsgi(body=b"abc")[:-1])),
    "bytes behind the body (dropped)": uwsgi(body=b"abc") + b"tail",
    "keys that are not `[A-Z][A-Z0-9_]*` (dropped)": variables(
        (b"http_x", b"1"), (b"X-Y", b"1"), (b"9", b"1")
    ),
    "UWSGI_* variables (dropped)": variables((b"UWSGI_FILE", b"/etc/passwd")),
}


@rows("uwsgi packets")
def test_uwsgi(router: Stage, what: str, answer: str, then: str) -> None:
    blog = router.vassal("blog")
    worker = blog.active().answering()
    sends = UWSGI[what]
    client = router.uwsgi(sends) if isinstance(sends, bytes) else sends(blog)
    if answer != DASH:
        assert client.response().status == int(answer)
    assert then == "closed"
    assert client.end() == "closed"
    if answer == "200":
        assert not {"http_x", "X-Y", "9", "UWSGI_FILE"} & set(worker.seen[0].variables)


# What a worker sends. It is ready, and inside the request `running`, unless its row says "before".
class Scene:
    """A vassal with a client, its request, and the worker that has it."""

    def __init__(self, blog: Vassal) -> None:
        self.blog = blog
        self.generation = blog.active(seats=2)

    def stranger(self) -> FakeWorker:
        return self.generation.stranger()

    def hello(self, **changed: Any) -> FakeWorker:
        worker = self.stranger()
        worker.hello(**changed)
        return worker

    def welcomed(self) -> FakeWorker:
        worker = self.hello()
        worker.welcomed()
        return worker

    def running(self) -> tuple[FakeWorker, Request]:
        worker = self.generation.worker()
        self.blog.stage.http(get())
        return worker, worker.take()

    def says(self, *parts: bytes) -> FakeWorker:
        """Ready, and sends this."""
        worker, _ = self.running()
        worker.send(*parts)
        return worker

    def says_of(self, make: Callable[[int], bytes], *, answering: bool = False) -> FakeWorker:
        """Ready, and sends this of its stream."""
        worker, running = self.running()
        if answering:
            worker.respond(running, fin=False)
        worker.send(make(running.stream))
        return worker


def record(kind: int, payload: bytes = b"", stream: int = 0, flags: int = 0) -> bytes:
    return records.pack(kind, flags, NO_WORD, stream, payload)


def other_uid(scene: Scene) -> FakeWorker:
    os.chmod(scene.blog.endpoint, 0o666)
    return scene.generation.remote(uid=65534)  # type: ignore[return-value]


def taken_seat(scene: Scene) -> FakeWorker:
    holder = scene.generation.remote()
    holder.call("join")
    scene.blog.wait_link()
    return scene.hello()


def retired(scene: Scene) -> FakeWorker:
    scene.generation.retire()
    return scene.hello()


def ready(scene: Scene, **says: Any) -> FakeWorker:
    worker = scene.welcomed()
    worker.ready(**says)
    return worker


def before_ready(scene: Scene) -> FakeWorker:
    worker = scene.welcomed()
    worker.send(record(records.PONG, bytes(8)))
    return worker


def sends_first(scene: Scene, message: bytes) -> FakeWorker:
    worker = scene.stranger()
    worker.send(message)
    return worker


def two_frames(scene: Scene, *, first: bool) -> FakeWorker:
    worker = scene.stranger() if first else scene.running()[0]
    worker.send_frames(record(records.PONG, bytes(8)), b"more")
    return worker


def returns_what_has_begun(scene: Scene) -> FakeWorker:
    worker = scene.generation.worker()
    scene.blog.stage.http(post(b"abc")[:-1])
    worker.give_back(worker.take())
    return worker


def ends_twice(scene: Scene) -> FakeWorker:
    worker, running = scene.running()
    worker.respond(running)
    worker.respond(running)
    return worker


def over_credit(scene: Scene) -> FakeWorker:
    worker, running = scene.running()
    worker.respond(running, fin=False)
    while not scene.blog.stats()["link_faults"]:
        worker.send(record(records.DATA, bytes(65536), running.stream) * 2)
    return worker


def steals(scene: Scene) -> FakeWorker:
    _, running = scene.running()
    thief = scene.generation.worker(1)
    thief.send(records.pack_response(FIN, NO_WORD, running.stream, 0, b"200 OK\r\n", b""))
    return thief


def scribbles(scene: Scene) -> FakeWorker:
    worker = scene.generation.worker()
    client = scene.blog.stage.http(get())
    offered = worker.offered()
    os.pwrite(scene.generation.board_fd, b"\xff" * 8, 64 + 16 + 8 * offered.word)
    client.reset()
    return worker


BACKPLANE: dict[str, Callable[[Scene], FakeWorker]] = {
    "HELLO of another version": lambda scene: scene.hello(version=2),
    "HELLO for another vassal": lambda scene: scene.hello(name="neighbour"),
    "HELLO of an unknown generation": lambda scene: scene.hello(generation=77),
    "HELLO with a wrong token": lambda scene: scene.hello(token=bytes(32)),
    "HELLO of another uid": other_uid,
    "HELLO for a seat that is not in the page": lambda scene: scene.hello(seat=2),
    "HELLO for a seat that another living process holds": taken_seat,
    "HELLO with other slots than the page": lambda scene: scene.hello(slots=2),
    "HELLO of a retired generation": retired,
    "READY with a wrong nonce": lambda scene: ready(scene, nonce=bytes(16)),
    "READY with more free slots than there are": lambda scene: ready(scene, free=2),
    "another record before READY": before_ready,
    "a record before HELLO": lambda scene: sends_first(scene, record(records.PONG, bytes(8))),
    "bytes that are no record before HELLO": lambda scene: sends_first(scene, b"hello?"),
    "more than 1 KiB before HELLO": lambda scene: sends_first(scene, bytes(4096)),
    "two frames before HELLO": lambda scene: two_frames(scene, first=True),
    "a message that ends inside a record header": lambda scene: scene.says(b"\x24\0\0"),
    "a record whose length goes past its message": lambda scene: scene.says(
        struct.pack("<BBHIQ", records.PONG, 0, NO_WORD, 100, 0) + b"short"
    ),
    "an empty message": lambda scene: scene.says(b""),
    "a message of more than 1024 records": lambda scene: scene.says(record(records.PONG, bytes(8)) * 1025),
    "a record of an unknown type": lambda scene: scene.says(record(99)),
    "a record that only a router sends": lambda scene: scene.says(record(records.WELCOME, bytes(32))),
    "a second HELLO on the connection": lambda scene: scene.says(
        records.pack_hello(0, 0, 1, 1, bytes(32), "blog")
    ),
    "a second READY": lambda scene: scene.says(records.pack_ready(bytes(16), 1)),
    "DATA before RESPONSE": lambda scene: scene.says_of(lambda stream: record(records.DATA, b"x", stream)),
    "a second RESPONSE": lambda scene: scene.says_of(
        lambda stream: records.pack_response(0, NO_WORD, stream, 0, b"200 OK\r\n", b""), answering=True
    ),
    "a RESPONSE whose head goes past its record": lambda scene: scene.says_of(
        lambda stream: record(records.RESPONSE, b"\xff\xff\0\0\0\x00200", stream)
    ),
    "RETURN of what has begun": returns_what_has_begun,
    "more body than its credit": over_credit,
    "more than 1 GiB of CREDIT on one stream": lambda scene: scene.says_of(
        lambda stream: records.pack_credit(stream, (1 << 30) + 1)
    ),
    "a CREDIT that is not 4 bytes": lambda scene: scene.says_of(
        lambda stream: record(records.CREDIT, b"12", stream)
    ),
    "a word of the page that holds what nobody wrote": scribbles,
    "a message of more than 1 MiB": lambda scene: scene.says(record(records.PONG, bytes(2 << 20))),
    "two frames": lambda scene: two_frames(scene, first=False),
    "a record of an unknown stream": lambda scene: scene.says(record(records.DATA, b"x", 0xDEAD)),
    "a record of another worker's stream": steals,
    "a RESPONSE after its request has ended": ends_twice,
    "an INTERIM response behind the head (dropped)": lambda scene: scene.says_of(
        lambda stream: record(records.INTERIM, b"", stream), answering=True
    ),
    "an empty DATA that is not the last": lambda scene: scene.says_of(
        lambda stream: record(records.DATA, b"", stream), answering=True
    ),
    "a PONG or RECALL that nobody asked for, a GRANT of more slots than the worker has": lambda scene: (
        scene.says(
            record(records.PONG, bytes(8)), record(records.GRANT, b"\1\0"), record(records.RECALL, b"\1\0")
        )
    ),
}

COUNTERS = ("unasked_messages", "refused_hellos", "link_faults", "stale_records")


@rows("Backplane")
def test_backplane(blog: Vassal, what: str, answer: str, then: str) -> None:
    if what == "HELLO of another uid" and os.getuid() != 0:
        pytest.skip("only root can be somebody else")
    worker = BACKPLANE[what](Scene(blog))
    if answer.startswith("REFUSED"):
        if isinstance(worker, FakeWorker):
            assert worker.expect_refused() == int(answer.split()[1])
        else:
            worker.call("hello")
            assert worker.call("expect_refused") == int(answer.split()[1])
    elif what == "a message of more than 1 MiB":
        # libzmq cuts the connection; the router learns of it when it has something to say afterwards.
        # It runs nothing, so that what comes goes on its deck however long that takes.
        worker.board.end(worker.seat.seat, 0)
        wait_for(lambda: blog.stage.http(get()) and not blog.links(), 5, blog.stats)
    else:
        wait_for(lambda: any(blog.stats()[key] for key in COUNTERS), 5, blog.stats)
        assert answer == "nothing"
        while (got := worker.receive(0.02)) is not None:
            assert got[0] == records.CREDIT
    if then == "lives":
        assert blog.wait_link(seat=worker.seat.seat)
    elif what != "HELLO for a seat that another living process holds":
        wait_for(lambda: not blog.links(), 5, blog.stats)
    assert blog.stats()["floods"] == 0


def control(stage: Stage, message: dict[str, Any], fds: list[int] | None = None) -> str:
    try:
        stage.channel.request(message, fds or [])
    except ControlError:
        return "error"
    return "ok"


def with_pipe(stage: Stage, message: dict[str, Any], count: int) -> str:
    read, write = os.pipe()
    try:
        return control(stage, message, [read, write][:count])
    finally:
        os.close(read)
        os.close(write)


def raw_control(stage: Stage, raw: bytes) -> str:
    """What comes back on a connection of its own; the stage's emperor comes again after it."""
    stage.channel.close()
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(stage.directory / "control"))
            sock.sendall(raw)
            sock.shutdown(socket.SHUT_WR)
            said = b"".join(iter(lambda: sock.recv(4096), b""))
    finally:
        stage.connect()
    assert b'"re"' not in said  # a line of the log may have come, of what was asked for before
    return DASH


def framed(text: str) -> bytes:
    return struct.pack("!I", len(text)) + text.encode()


def odd_page(stage: Stage, **shape: Any) -> str:
    generation = stage.vassals["blog"].generation(tell=False, **shape)
    if "sealed" not in shape:
        generation.seats += 1
    try:
        generation.tell()
    except ControlError:
        return "error"
    return "ok"


def foreign_control(stage: Stage) -> str:
    os.chmod(stage.directory / "control", 0o666)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.setuid(65534)
            channel = Channel.connect(str(stage.directory / "control"))
            try:
                channel.request({"op": "stats"}, timeout_s=5)
            except Exception:
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return DASH


ENTRY = {"name": "new", "domains": ["new.localhost"]}

CONTROL: dict[str, Callable[[Stage], str]] = {
    "an unknown op": lambda stage: control(stage, {"op": "fly"}),
    "no op": lambda stage: control(stage, {}),
    "a missing key": lambda stage: control(stage, {"op": "retire"}),
    "a value of the wrong type": lambda stage: control(
        stage, {"op": "vassal", "entry": {**ENTRY, "queue": "x"}}
    ),
    "a vassal that nobody has sent": lambda stage: control(
        stage, {"op": "activate", "name": "?", "generation": 1}
    ),
    "a descriptor too few": lambda stage: control(stage, {"op": "vassal", "entry": ENTRY}),
    "a descriptor too many": lambda stage: with_pipe(stage, {"op": "vassal", "entry": ENTRY}, 2),
    "a descriptor that is no socket": lambda stage: with_pipe(stage, {"op": "vassal", "entry": ENTRY}, 1),
    "a page without seals": lambda stage: odd_page(stage, sealed=False),
    "a page of another shape": lambda stage: odd_page(stage),
    "an unknown key (ignored)": lambda stage: control(stage, {"op": "stats", "future": [1]}),
    "bytes that are no JSON": lambda stage: raw_control(stage, framed("{nope")),
    "JSON that is no object": lambda stage: raw_control(stage, framed(json.dumps([1]))),
    "a length of more than 4 MiB": lambda stage: raw_control(stage, struct.pack("!I", (4 << 20) + 1)),
    "half a message and then the end": lambda stage: raw_control(stage, framed("{}" + " " * 100)[:-50]),
    "another user's connection": foreign_control,
}


@rows("Control")
def test_control(stage: Stage, blog: Vassal, what: str, answer: str, then: str) -> None:
    if what == "another user's connection" and os.getuid() != 0:
        pytest.skip("only root can be somebody else")
    assert CONTROL[what](stage) == answer
    assert (then == "lives") == (answer != DASH)  # closed is what `raw_control` waits for
    assert stage.stats()["state"] == "running"


@pytest.mark.parametrize(
    ("section", "sent"),
    [
        ("HTTP", HTTP),
        ("Responses of a worker", RESPONSES),
        ("uwsgi packets", UWSGI),
        ("Backplane", BACKPLANE),
        ("Control", CONTROL),
    ],
)
def test_the_page_and_this_file_have_the_same_rows(section: str, sent: dict[str, Any]) -> None:
    assert [row[0] for row in table(section)] == list(sent)
