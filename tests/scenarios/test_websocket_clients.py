"""WebSockets through what people use: clients and frameworks from PyPI, nginx in front."""

import asyncio
import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.exceptions import ConnectionClosed
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Pong, Request, TextMessage

from .harness import Fleet, free_port, wait_for
from .harness.fleet import APPS
from .test_nginx import NGINX, _answers
from .test_websocket import opened, seen, vassal


@pytest.fixture
def served(fleet: Fleet) -> Fleet:
    vassal(fleet)
    fleet.start()
    return fleet


@pytest.mark.parametrize("compress", [0, 15])
def test_aiohttp(served: Fleet, compress: int) -> None:
    async def talk() -> None:
        connector = aiohttp.TCPConnector(family=socket.AF_INET)
        async with aiohttp.ClientSession(connector=connector) as session:
            url = f"http://127.0.0.1:{served.http_port}/echo"
            host = {"Host": "a.localhost"}
            async with session.ws_connect(url, headers=host, compress=compress, autoping=True) as client:
                assert bool(client.compress) == bool(compress)
                for size in (0, 1, 600, 100_000):
                    await client.send_str("ä" * size)
                    assert await client.receive_str() == "ä" * size
                    await client.send_bytes(bytes(size))
                    assert await client.receive_bytes() == bytes(size)
                await client.close(code=4000, message=b"enough")
                assert client.close_code == 4000

    asyncio.run(talk())
    wait_for(lambda: ["echo", 4000, "enough"] in seen(served)["ends"], 5)


def test_wsproto(served: Fleet) -> None:
    sock = socket.create_connection(("127.0.0.1", served.http_port), 10)
    client = WSConnection(ConnectionType.CLIENT)
    sock.sendall(client.send(Request(host="a.localhost", target="/scope", subprotocols=["x", "y"])))
    events: list[Any] = []

    def expect(kind: type) -> Any:
        while not any(isinstance(event, kind) for event in events):
            client.receive_data(sock.recv(65536) or None)
            events.extend(client.events())
        found = next(event for event in events if isinstance(event, kind))
        events.remove(found)
        return found

    assert expect(AcceptConnection).subprotocol == "y"
    assert json.loads(expect(TextMessage).data)["subprotocols"] == ["x", "y"]
    sock.sendall(client.send(BytesMessage(data=b"abc")))
    assert expect(BytesMessage).data == b"abc"
    sock.sendall(client.send(Ping(payload=b"there?")))
    assert expect(Pong).payload == b"there?"
    sock.sendall(client.send(CloseConnection(code=1000, reason="over")))
    assert expect(CloseConnection).code == 1000
    assert sock.recv(100) == b""
    sock.close()


@pytest.fixture
def front(served: Fleet) -> Iterator[tuple[Fleet, int]]:
    """A fleet and the port of an nginx before it, set up as its documentation says for WebSockets."""
    port, root = free_port(), served.root
    (root / "nginx.conf").write_text(
        f"user root; daemon off; worker_processes 1; pid {root}/nginx.pid; error_log {root}/nginx.log;\n"
        "events { worker_connections 256; }\n"
        "http { access_log off;\n"
        + "".join(
            f"{kind}_temp_path {root}/t_{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        + "map $http_upgrade $connection_upgrade { default upgrade; '' close; }\n"
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{served.http_port};\n"
        "proxy_http_version 1.1; proxy_set_header Host $host; proxy_set_header Upgrade $http_upgrade;\n"
        "proxy_set_header Connection $connection_upgrade; } } }\n"
    )
    child: subprocess.Popen[bytes] = served.orphans.popen(
        [NGINX, "-e", root / "nginx.log", "-c", root / "nginx.conf"], start_new_session=True
    )
    wait_for(lambda: _answers(port), 5, lambda: (root / "nginx.log").read_text())
    yield served, port
    child.terminate()
    child.wait(5)


def test_nginx_in_front(front: tuple[Fleet, int]) -> None:
    fleet, port = front
    with opened(fleet, "/echo", port, compression="deflate", max_size=None) as client:
        for size in (0, 64, 1000, 1_000_000):
            client.send("x" * size)
            assert client.recv() == "x" * size
        client.close(4000, "enough")
    wait_for(lambda: ["echo", 4000, "enough"] in seen(fleet)["ends"], 5)
    with opened(fleet, "/closes", port) as client:
        assert client.recv() == "last words"
        with pytest.raises(ConnectionClosed) as caught:
            client.recv()
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 4001
    with opened(fleet, "/echo", port) as client:
        vassal(fleet, env="X=1")
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(20)
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 1001


FAST = """
    import asyncio
    from fastapi import Depends, FastAPI, WebSocket, WebSocketDisconnect, WebSocketException
    from fastapi.responses import JSONResponse

    app = FastAPI()
    rooms = set()
    gone = []

    def token(websocket: WebSocket, token: str = ""):
        if token != "letmein":
            raise WebSocketException(code=1008, reason="who are you?")
        return token

    @app.get("/gone")
    async def who_has_gone():
        return gone

    @app.websocket("/chat/{name}")
    async def chat(websocket: WebSocket, name: str, token: str = Depends(token)):
        await websocket.accept()
        rooms.add(websocket)
        try:
            async for text in websocket.iter_text():
                await asyncio.gather(*(each.send_json({"from": name, "text": text}) for each in rooms))
        finally:
            rooms.discard(websocket)
            gone.append(name)

    @app.websocket("/timer")
    async def timer(websocket: WebSocket):
        await websocket.accept()
        try:
            await asyncio.wait_for(websocket.receive_text(), 0.1)
        except asyncio.TimeoutError:
            await websocket.send_text("too late")
        assert await websocket.receive_bytes() == b"still here"
        await websocket.close(4002)

    @app.websocket("/denied")
    async def denied(websocket: WebSocket):
        await websocket.send_denial_response(JSONResponse({"detail": "not today"}, status_code=429))
"""


def test_fastapi(fleet: Fleet) -> None:
    fleet.app("a", FAST, asgi="a:app", pythonpath=fleet.root / "apps", **{"wsgi-file": ""})
    path = fleet.directory / "a.ini"
    path.write_text(
        "\n".join(line for line in path.read_text().splitlines() if "wsgi-file" not in line) + "\n"
    )
    fleet.start()
    with opened(fleet, "/chat/ann?token=letmein") as ann, opened(fleet, "/chat/bob?token=letmein") as bob:
        ann.send("hello")
        for each in (ann, bob):
            assert json.loads(each.recv()) == {"from": "ann", "text": "hello"}
    wait_for(lambda: sorted(json.loads(fleet.get("a", "/gone").body)) == ["ann", "bob"], 5)
    with pytest.raises(Exception, match="403"), opened(fleet, "/chat/eve?token=x"):
        pass
    with pytest.raises(Exception, match="429"), opened(fleet, "/denied"):
        pass
    with opened(fleet, "/timer") as client:
        assert client.recv() == "too late"
        client.send(b"still here")
        with pytest.raises(ConnectionClosed) as caught:
            client.recv()
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 4002
    assert "Traceback" not in fleet.log()


BROWSERS = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
PAGE = """<!doctype html><title>waits</title><script>
const said = [], socket = new WebSocket(`ws://${location.host}/echo`, []);
socket.binaryType = "arraybuffer";
socket.onopen = () => { socket.send("ä".repeat(1000)); socket.send(new Uint8Array([1, 2, 3])); };
socket.onmessage = event => {
  said.push(typeof event.data === "string" ? event.data.length : [...new Uint8Array(event.data)].join());
  if (said.length === 2) socket.close(4005, "seen");
};
socket.onclose = event => { document.body.textContent = JSON.stringify([said, event.code, event.wasClean]); };
</script><body></body>"""


@pytest.mark.skipif(not any(Path(each).exists() for each in BROWSERS), reason="no Chromium here")
def test_a_page_in_chromium(fleet: Fleet) -> None:
    (fleet.root / "page.py").write_text(
        "import ws_apps\n"
        f"PAGE = {PAGE.encode()!r}\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'http' and scope['path'] == '/page':\n"
        "        await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-type', b'text/html')]})\n"
        "        await send({'type': 'http.response.body', 'body': PAGE})\n"
        "    else:\n"
        "        await ws_apps.app(scope, receive, send)\n"
    )
    vassal(fleet, asgi="page:app", pythonpath=[APPS, fleet.root])
    fleet.start()
    browser = next(each for each in BROWSERS if Path(each).exists())
    done = subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000"),
            *(f"--user-data-dir={fleet.root}/chromium", "--dump-dom"),
            f"http://a.localhost:{fleet.http_port}/page",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert '[[1000,"1,2,3"],4005,true]' in done.stdout, done.stdout + done.stderr[-2000:]
    wait_for(lambda: ["echo", 4005, "seen"] in seen(fleet)["ends"], 5)
