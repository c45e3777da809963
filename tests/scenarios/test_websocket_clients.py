"""WebSockets through what people use: clients and frameworks from PyPI, nginx in front."""

import asyncio
import json
import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import aiohttp
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Pong, Request, TextMessage

from .harness import Fleet, accepts, free_port, wait_for
from .harness.fleet import APPS
from .harness.nginx import NGINX
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
def front(served: Fleet) -> Iterator[tuple[Fleet, int, int]]:
    """A fleet and the ports of an nginx before it, set up as its documentation says for WebSockets: one with `proxy_pass`, one
    with `uwsgi_pass`, which needs nothing."""
    port, by_uwsgi, root = free_port(), free_port(), served.root
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
        "proxy_set_header Connection $connection_upgrade; } }\n"
        f"server {{ listen 127.0.0.1:{by_uwsgi}; location / {{ include /etc/nginx/uwsgi_params;\n"
        f"uwsgi_pass unix:{served.run_dir}/uwsgi.sock; }} }} }}\n"
    )
    child: subprocess.Popen[bytes] = served.orphans.popen(
        [NGINX, "-e", root / "nginx.log", "-c", root / "nginx.conf"], start_new_session=True
    )
    wait_for(lambda: accepts(port), 5, lambda: (root / "nginx.log").read_text())
    yield served, port, by_uwsgi
    child.terminate()
    child.wait(5)


def test_nginx_in_front(front: tuple[Fleet, int, int]) -> None:
    fleet, *ports = front
    for code, port in enumerate(ports, 4000):
        with opened(fleet, "/echo", port, compression="deflate", max_size=None) as client:
            for size in (0, 64, 1000, 1_000_000):
                client.send("x" * size)
                assert client.recv() == "x" * size
            client.close(code, "enough")
        wait_for(lambda code=code: ["echo", code, "enough"] in seen(fleet)["ends"], 5)
        with opened(fleet, "/closes", port) as client:
            assert client.recv() == "last words"
            with pytest.raises(ConnectionClosed) as caught:
                client.recv()
            assert caught.value.rcvd is not None and caught.value.rcvd.code == 4001
    with opened(fleet, "/echo", ports[0]) as one, opened(fleet, "/echo", ports[1]) as other:
        vassal(fleet, env="X=1")
        for client in (one, other):
            with pytest.raises(ConnectionClosed) as caught:
                client.recv(20)
            assert caught.value.rcvd is not None and caught.value.rcvd.code == 1001


def test_tls(fleet: Fleet, tmp_path: Path) -> None:
    port, place = free_port(), fleet.root
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=a.localhost "
        f"-addext subjectAltName=DNS:a.localhost -keyout {place}/app.key -out {place}/app.crt".split(),
        check=True,
        capture_output=True,
    )
    vassal(fleet, https_socket=f"127.0.0.1:{port},{place}/app.crt,{place}/app.key,HIGH")
    fleet.start()
    context = ssl.create_default_context(cafile=str(place / "app.crt"))
    sock = socket.create_connection(("127.0.0.1", port), 10)
    with connect(f"wss://a.localhost:{port}/scope", sock=sock, ssl=context, max_size=None) as client:
        assert json.loads(client.recv(10))["scheme"] == "wss"
        for size in (0, 64, 1_000_000):
            client.send(b"x" * size)
            assert client.recv(10) == b"x" * size
        client.close(4006)
    wait_for(lambda: ["scope", 4006, ""] in seen(fleet)["ends"], 5)


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
    served_by(fleet, FAST)
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


CHANNELS = """
    import django
    from django.conf import settings
    settings.configure(DEBUG=True, SECRET_KEY="x", ALLOWED_HOSTS=["a.localhost"], ROOT_URLCONF=__name__,
        INSTALLED_APPS=["channels"], CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}})
    django.setup()
    from channels.generic.websocket import AsyncJsonWebsocketConsumer, WebsocketConsumer
    from channels.routing import ProtocolTypeRouter, URLRouter
    from channels.security.websocket import AllowedHostsOriginValidator
    from django.core.asgi import get_asgi_application
    from django.urls import path
    urlpatterns = []

    class Room(AsyncJsonWebsocketConsumer):
        async def connect(self):
            await self.channel_layer.group_add("room", self.channel_name)
            await self.accept("chat" if "chat" in self.scope["subprotocols"] else None)

        async def receive_json(self, content):
            await self.channel_layer.group_send("room", {"type": "said", "text": content["text"]})

        async def said(self, event):
            await self.send_json({"text": event["text"]})

        async def disconnect(self, code):
            await self.channel_layer.group_discard("room", self.channel_name)

    class Threaded(WebsocketConsumer):
        def receive(self, text_data=None, bytes_data=None):
            self.send(text_data=text_data.upper())
            self.close(code=4003)

    app = ProtocolTypeRouter({
        "http": get_asgi_application(),
        "websocket": AllowedHostsOriginValidator(URLRouter([path("room", Room.as_asgi()), path("sync", Threaded.as_asgi())])),
    })
"""


def served_by(fleet: Fleet, source: str) -> None:
    (fleet.root / "apps").mkdir()
    (fleet.root / "apps" / "framework.py").write_text(dedent(source).lstrip())
    fleet.vassal("a", asgi="framework:app", pythonpath=fleet.root / "apps")
    fleet.start()


def test_django_channels(fleet: Fleet) -> None:
    pytest.importorskip("channels")
    served_by(fleet, CHANNELS)
    here = "http://a.localhost"
    with (
        opened(fleet, "/room", subprotocols=["chat"], origin=here) as ann,
        opened(fleet, "/room", origin=here) as bob,
    ):
        assert ann.subprotocol == "chat" and bob.subprotocol is None
        ann.send(json.dumps({"text": "hello"}))
        for each in (ann, bob):
            assert json.loads(each.recv(10)) == {"text": "hello"}
    with opened(fleet, "/sync", origin=here) as client:
        client.send("quiet")
        assert client.recv(10) == "QUIET"
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(10)
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 4003
    with pytest.raises(Exception, match="403"), opened(fleet, "/room", origin="http://evil.test"):
        pass
    assert "Traceback" not in fleet.log()


QUART = """
    from quart import Quart, websocket

    app = Quart(__name__)

    @app.websocket("/echo/<name>")
    async def echo(name):
        await websocket.accept(headers={"x-name": name})
        while True:
            await websocket.send(await websocket.receive())

    @app.websocket("/no")
    async def no():
        return "not here", 404
"""


def test_quart(fleet: Fleet) -> None:
    pytest.importorskip("quart")
    served_by(fleet, QUART)
    with opened(fleet, "/echo/ann") as client:
        assert client.response.headers["x-name"] == "ann"
        for message in ("text", b"bytes", "ä" * 70_000):
            client.send(message)
            assert client.recv(10) == message
    with pytest.raises(Exception, match="404"), opened(fleet, "/no"):
        pass
    assert "Traceback" not in fleet.log()


LITESTAR = """
    from litestar import Litestar, WebSocket, websocket, websocket_listener

    @websocket_listener("/double")
    async def double(data: dict[str, int]) -> dict[str, int]:
        return {name: 2 * value for name, value in data.items()}

    @websocket("/count")
    async def count(socket: WebSocket) -> None:
        await socket.accept()
        for number in range(3):
            await socket.send_text(str(number))
        await socket.close(code=4004, reason="counted")

    app = Litestar([double, count])
"""


def test_litestar(fleet: Fleet) -> None:
    pytest.importorskip("litestar")
    served_by(fleet, LITESTAR)
    with opened(fleet, "/double") as client:
        client.send('{"one": 1, "two": 2}')
        assert json.loads(client.recv(10)) == {"one": 2, "two": 4}
    with opened(fleet, "/count") as client:
        assert [client.recv(10) for _ in range(3)] == ["0", "1", "2"]
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(10)
        assert caught.value.rcvd is not None and caught.value.rcvd.reason == "counted"
    assert "Traceback" not in fleet.log()


BROWSERS = [
    os.environ.get("CHROMIUM", ""),
    *("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"),
]
BROWSER = next((each for each in BROWSERS if each and Path(each).exists()), None)
PAGE = """<!doctype html><meta charset="utf-8"><title>WebSocket</title><script>
const said = [], socket = new WebSocket(`ws://${location.host}/echo`);
socket.binaryType = "arraybuffer";
socket.onopen = () => { socket.send("ä".repeat(1000)); socket.send(new Uint8Array([1, 2, 3])); };
socket.onmessage = event => {
  said.push(typeof event.data === "string" ? event.data.length : [...new Uint8Array(event.data)].join());
  if (said.length === 2) socket.close(4005, "seen");
};
socket.onclose = event =>
  fetch("/told", {method: "POST", body: JSON.stringify([said, event.code, event.wasClean, socket.extensions])});
</script>"""
PAGE_APP = """
import ws_apps
PAGE, TOLD = open("page.html", "rb").read(), []

async def app(scope, receive, send):
    if scope["type"] != "http" or scope["path"] not in ("/page", "/told"):
        await ws_apps.app(scope, receive, send)
        return
    if scope["method"] == "POST":
        TOLD.append((await receive())["body"])
    body = PAGE if scope["path"] == "/page" else b"".join(TOLD)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
    await send({"type": "http.response.body", "body": body})
"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here; CHROMIUM may name one")
def test_a_page_in_chromium(fleet: Fleet) -> None:
    (fleet.root / "page.html").write_text(PAGE)
    (fleet.root / "page_app.py").write_text(PAGE_APP)
    vassal(fleet, asgi="page_app:app", pythonpath=[APPS, fleet.root], chdir=fleet.root)
    fleet.start()
    assert BROWSER is not None
    argv = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={fleet.root}/chromium"]
    browser: subprocess.Popen[bytes] = fleet.orphans.popen(
        [*argv, f"http://a.localhost:{fleet.http_port}/page"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        told = json.loads(wait_for(lambda: fleet.get("a", "/told").body, 30, fleet.log))
    finally:
        browser.terminate()
        browser.wait(10)
    assert told[:3] == [[1000, "1,2,3"], 4005, True] and told[3].startswith("permessage-deflate")
    assert ["echo", 4005, "seen"] in seen(fleet)["ends"]
