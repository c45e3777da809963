"""Runs `emperor start` on a directory and shows, beside its log, how each app comes up and where to try it.

The demo is a reader: it starts the emperor, asks its statistics socket what is ready, and prints. Ctrl-C
reaches the emperor through the terminal; the demo waits for it to drain. A further Ctrl-C is the emperor's
second one, which is fast.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

POLL_S = 0.2
SETTLED = ("READY", "REFUSED", "BACKOFF", "GIVEN_UP")
# What to try on each of the example's apps; a directory of one's own just gets its addresses.
TRIES = {
    "hello": ["curl {url}"],
    "counter": ["curl -c jar -b jar {url}", "curl -c jar -b jar {url}"],
    "notes": ["curl -d 'buy milk' {url}", "curl {url}"],
    "files": ["curl -T Makefile {url}Makefile", "curl {url}countdown"],
}


def main() -> int:
    """Returns the emperor's own exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--http", default="127.0.0.1:8080")
    arguments = parser.parse_args()
    emperor = Path(sys.executable).with_name("emperor")
    with tempfile.TemporaryDirectory(prefix="emperor-demo-") as run_dir:
        child = subprocess.Popen(
            [emperor, "start", arguments.directory, "--http", arguments.http, "--run-dir", run_dir]
        )
        # The terminal gives Ctrl-C to the whole foreground group: only the emperor acts on it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        follow(child, Path(run_dir) / "stats.sock", arguments.http)
        return child.wait()


def follow(child: subprocess.Popen[bytes], stats: Path, http: str) -> None:
    """Prints each change of a vassal's state, and the addresses once all have come up or been refused."""
    began = time.monotonic()
    told: dict[str, str] = {}
    while child.poll() is None:
        document = ask(stats)
        vassals = document["vassals"] if document else []
        for vassal in vassals:
            state = f"{vassal['state']} {vassal['reason']}".strip()
            if told.get(vassal["name"]) != state:
                told[vassal["name"]] = state
                print(f"demo: {time.monotonic() - began:4.1f} s  {vassal['name']:<12} {state}", flush=True)
        if vassals and all(
            vassal["state"] in ("READY", "REFUSED", "GIVEN_UP", "BACKOFF") for vassal in vassals
        ):
            print_addresses(vassals, http)
            return
        time.sleep(POLL_S)


def print_addresses(vassals: list[dict[str, Any]], http: str) -> None:
    """The addresses of what is ready, with a command each for the apps that the demo knows."""
    port = http.rpartition(":")[2]
    print("\ndemo: try, from another terminal:", flush=True)
    for vassal in vassals:
        if vassal["state"] != "READY":
            continue
        url = f"http://{vassal['name']}.localhost:{port}/"
        for command in TRIES.get(vassal["name"], ["curl {url}"]):
            print("  " + command.format(url=url))
    print("  touch ops/vassals.example/hello.ini      # a reload, without losing a request")
    print("demo: Ctrl-C ends it\n", flush=True)


def ask(stats: Path) -> dict[str, Any] | None:
    """The statistics document, or None while nothing answers yet."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2)
            connection.connect(str(stats))
            with connection.makefile("rb") as stream:
                document: dict[str, Any] = json.load(stream)
                return document
    except (OSError, ValueError):
        return None


if __name__ == "__main__":
    sys.exit(main())
