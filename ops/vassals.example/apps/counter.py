"""Counts visits in a signed cookie: a session that any worker can carry on."""

import hashlib
import hmac
import os
from http.cookies import CookieError, SimpleCookie

KEY = os.environ["COUNTER_KEY"].encode()


def sign(count):
    return f"{count}-{hmac.new(KEY, str(count).encode(), hashlib.sha256).hexdigest()[:16]}"


def read_count(environ):
    try:
        value = SimpleCookie(environ.get("HTTP_COOKIE", ""))["visits"].value
        count = int(value.partition("-")[0])
    except (CookieError, KeyError, ValueError):
        return 0
    return count if hmac.compare_digest(value, sign(count)) else 0


def application(environ, start_response):
    count = read_count(environ) + 1
    body = f"Visit number {count}, answered by process {os.getpid()}\n".encode()
    start_response(
        "200 OK",
        [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Set-Cookie", f"visits={sign(count)}; HttpOnly; Path=/"),
        ],
    )
    return [body]
