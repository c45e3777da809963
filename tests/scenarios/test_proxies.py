"""Real front servers: nginx before a vassal's own socket, haproxy with the PROXY protocol, uWSGI's own ping."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import Connection, Fleet, accepts, fetch, free_port, wait_for
from .harness.fleet import APPS
from .harness.nginx import nginx
from .test_own_listeners import wait_open

CGI = APPS / "cgi.py"
HAPROXY = "/usr/sbin/haproxy"
UWSGI = Path(sys.executable).with_name("uwsgi")


def test_mode_and_owner_of_the_emperors_own_socket_are_settings(fleet: Fleet) -> None:
    fleet.vassal("blog", wsgi_file=CGI)
    fleet.start("--chmod-socket", "620", "--chown-socket", f":{os.getgid()}")
    status = (fleet.run_dir / "uwsgi.sock").stat()
    assert (status.st_mode & 0o777, status.st_gid) == (0o620, os.getgid())


@pytest.mark.parametrize("place", ["/", "/off/"])
def test_an_nginx_as_it_stood_before_uwsgi(fleet: Fleet, place: str) -> None:
    """`uwsgi_pass unix:/…/app.sock` with the stock parameters, and a Host that no vassal answers to."""
    own = fleet.root / "app.sock"
    fleet.vassal("blog", wsgi_file=CGI, socket=own, chmod_socket=666)
    fleet.vassal("other", wsgi_file=CGI, default="true")
    fleet.start()
    wait_open(fleet, f"unix:{own}")
    with nginx(fleet, f"unix:{own}") as port:
        said = json.loads(fetch(port, "www.example.org", f"{place}a%20b?q").body)
        assert (said["HTTP_HOST"], said["PATH_INFO"]) == ("www.example.org", f"{place}a b")
        assert (said["QUERY_STRING"], said["REQUEST_URI"]) == ("q", f"{place}a%20b?q")
        assert (said["REMOTE_ADDR"], said["scheme"]) == ("127.0.0.1", "http")
        assert fetch(port, "www.example.org", place, "POST", os.urandom(300_000)).status == 200


@pytest.fixture(params=["send-proxy", "send-proxy-v2"])
def haproxy(request: pytest.FixtureRequest, fleet: Fleet) -> Iterator[tuple[Fleet, int]]:
    """A fleet whose shared HTTP address expects the PROXY protocol, and the port of an haproxy before it."""
    fleet.vassal("blog", wsgi_file=CGI)
    fleet.start("--proxy-protocol", "127.0.0.1")
    port = free_port()
    config = fleet.root / "haproxy.cfg"
    config.write_text(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n"
        f"listen front\n bind 127.0.0.1:{port}\n source 127.0.0.1\n"
        f" server router 127.0.0.1:{fleet.http_port} {request.param}\n"
    )
    child = fleet.orphans.popen([HAPROXY, "-db", "-f", config], start_new_session=True)
    wait_for(lambda: accepts(port), 5, "haproxy")
    yield fleet, port
    child.terminate()
    child.wait(5)


def test_the_client_of_an_haproxy_is_seen(haproxy: tuple[Fleet, int]) -> None:
    _, port = haproxy
    with Connection(port) as connection:
        for _ in range(3):
            said = json.loads(connection.request("blog.localhost").body)
            assert (said["SERVER_PORT"], said["REMOTE_ADDR"]) == (str(port), "127.0.0.1")
            assert said["REMOTE_PORT"] == str(connection.sock.getsockname()[1])


def test_who_should_send_a_proxy_header_and_does_not_is_cut_off(haproxy: tuple[Fleet, int]) -> None:
    fleet, _ = haproxy
    with pytest.raises(ConnectionError), Connection(fleet.http_port) as connection:
        connection.request("blog.localhost")
    wait_for(lambda: "is no PROXY header" in fleet.log(), 5, fleet.log)


@pytest.mark.skipif(not UWSGI.exists(), reason="needs uWSGI")
def test_uwsgis_own_ping(fleet: Fleet) -> None:
    own = fleet.root / "app.sock"
    fleet.vassal("blog", wsgi_file=CGI, socket=own)
    fleet.app("broken", "raise SystemExit('no')", socket=fleet.root / "broken.sock")
    fleet.start(ready=False)
    fleet.wait_state("blog", "READY")
    wait_open(fleet, f"unix:{fleet.root}/broken.sock", name="broken")

    def ping(address: object) -> int:
        argv = [str(UWSGI), "--ping", str(address), "--ping-timeout", "5"]
        return subprocess.run(argv, capture_output=True, timeout=20, check=False).returncode

    assert ping(own) == 0
    assert ping(fleet.run_dir / "uwsgi.sock") == 0
    assert ping(fleet.root / "broken.sock") == 2


APPS_BELOW = {
    "flask": """
        from flask import Flask, request, url_for

        app = application = Flask(__name__)

        @app.route("/")
        @app.route("/item/<name>")
        def item(name=""):
            return f"{request.script_root}|{request.path}|{url_for('item', name='x')}"
    """,
    "django": """
        import os
        from django.conf import settings
        settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", DEBUG=False)
        from django.http import HttpResponse
        from django.urls import path, reverse
        from django.core.wsgi import get_wsgi_application

        def item(request, name=""):
            return HttpResponse(f"{request.META['SCRIPT_NAME']}|{request.path_info}|{reverse('item', args=['x'])}")

        urlpatterns = [path("", item), path("item/<name>", item, name="item")]
        application = get_wsgi_application()
    """,
}


@pytest.mark.parametrize("framework", APPS_BELOW)
def test_an_app_below_a_path_makes_its_urls_below_it(fleet: Fleet, framework: str) -> None:
    fleet.app(
        "shop",
        APPS_BELOW[framework],
        domain=["example.org/shop", "shop.example.org"],
        manage_script_name="true",
    )
    fleet.start()

    def page(host: str, path: str) -> str:
        return fetch(fleet.http_port, host, path).text

    assert page("example.org", "/shop/item/1") == "/shop|/item/1|/shop/item/x"
    assert page("example.org", "/shop/") == "/shop|/|/shop/item/x"
    assert page("shop.example.org", "/item/1") == "|/item/1|/item/x"
    # At that name it is mounted at the root, where it has no /shop.
    strange = fetch(fleet.http_port, "shop.example.org", "/shop/item/1")
    assert strange.status == 404
    assert "|" not in strange.text
