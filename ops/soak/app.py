"""The app of the soak: the tests' nonce app, with an import of a second and three paths of its own.

``/ready`` is 500 while the file ``unready`` lies in SOAK_FLAGS, ``/sick`` if ``sick`` lay there when the app was imported:
what a bad deployment breaks first is seldom what most users ask for.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("IMPORT_MS", "1000")
sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "scenarios" / "harness" / "apps"))
from nonce import application as nonce

FLAGS = Path(os.environ["SOAK_FLAGS"])
SICK = (FLAGS / "sick").exists()


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path not in ("/ready", "/sick"):
        return nonce(environ, start_response)
    well = not ((FLAGS / "unready").exists() if path == "/ready" else SICK)
    body = b"well\n" if well else b"the database has no table visits\n"
    start_response(
        "200 OK" if well else "500 Internal Server Error",
        [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))],
    )
    return [body]
