"""nginx before a fleet, with `uwsgi_pass` and its stock `uwsgi_params`."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from .fleet import Fleet
from .http import accepts, answers
from .ports import free_port
from .waiting import wait_for

NGINX = "/usr/sbin/nginx"


@contextmanager
def nginx(fleet: Fleet, upstream: str, path: str = "") -> Iterator[int]:
    """The port of one that passes all to `upstream`: below `/off/` it does not buffer. It accepts, and with `path` answers
    a GET of it for the vassal a."""
    port = free_port()
    child = _start(fleet, port, upstream)
    try:
        wait_for(
            lambda: answers(port, "a.localhost", path) if path else accepts(port),
            10,
            (fleet.root / "nginx.log").read_text,
        )
        yield port
    finally:
        child.terminate()
        child.wait(5)


def _start(fleet: Fleet, port: int, upstream: str) -> "subprocess.Popen[bytes]":
    root = fleet.root
    temporary = "".join(
        f"{kind}_temp_path {root}/t_{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    passing = f"include /etc/nginx/uwsgi_params; uwsgi_pass {upstream};"
    (root / "nginx.conf").write_text(
        ("user root;\n" if os.getuid() == 0 else "")
        + f"daemon off; worker_processes 1; pid {root}/nginx.pid; error_log {root}/nginx.log;\n"
        "events { worker_connections 256; }\n"
        f"http {{ access_log off; client_max_body_size 0;\n{temporary}"
        f"server {{ listen 127.0.0.1:{port};\n"
        f"location / {{ {passing} }}\n"
        f"location /off/ {{ uwsgi_request_buffering off; uwsgi_buffering off; {passing} }}\n"
        "} }\n"
    )
    child: subprocess.Popen[bytes] = fleet.orphans.popen(
        [NGINX, "-e", root / "nginx.log", "-c", root / "nginx.conf"], start_new_session=True
    )
    return child
