"""The README's transcript, run as it is printed; `make demo`'s own program; the config files that the docs show."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .harness import Fleet, wait_for
from .harness.fleet import EMPEROR
from .harness.http import fetch

PROJECT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
VARYING = re.compile(r"\d+\.\d+ s\b|\d+s\b")


def transcripts() -> list[str]:
    return BLOCK.findall((PROJECT / "README.md").read_text())


def steps(block: str) -> list[tuple[str, list[str]]]:
    """(command with its here-document, the lines printed below it) of each `$ ` in a block."""
    found: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:] + "\n", []))
        elif line.startswith("> "):
            command, said = found[-1]
            found[-1] = (f"{command}{line[2:]}\n", said)
        else:
            found[-1][1].append(line)
    return found


def expect_lines(printed: list[str], said: str) -> None:
    """Each printed line is in what was said, in this order; `…` stands for anything, and durations differ."""
    rest = VARYING.sub("T", re.sub(r"[ \t]+", " ", said))
    for line in printed:
        parts = [re.escape(part) for part in VARYING.sub("T", re.sub(r" +", " ", line.strip())).split("…")]
        match = re.search(r"[^\n]*".join(parts), rest)
        assert match, f"{line!r} is not in what is left:\n{rest}\nof:\n{said}"
        rest = rest[match.end() :]


def test_the_transcript_does_what_it_shows(fleet: Fleet) -> None:
    first, second, third = transcripts()
    port = str(fleet.http_port)
    # The printed command lines stay as they are: what makes them this test's own is in an `emperor` of its own.
    shim = fleet.root / "bin" / "emperor"
    shim.parent.mkdir()
    own = f"--http 127.0.0.1:{port}"
    shim.write_text(
        f'#!/bin/sh\n[ "$1" = start ] && exec {EMPEROR} "$@" --run-dir {fleet.run_dir} {own}\n'
        f'exec {EMPEROR} "$@" --run-dir {fleet.run_dir}\n'
    )
    shim.chmod(0o755)
    place = fleet.root / "home"
    place.mkdir()
    environment = {**os.environ, "PATH": f"{shim.parent}:{os.environ['PATH']}", "COLUMNS": "100"}

    *prepare, (start, start_says) = steps(first)
    for command, _ in prepare:
        subprocess.run(["bash", "-ec", command], cwd=place, env=environment, check=True)
    assert start == "emperor start vassals\n"
    with fleet.log_path.open("ab") as log:
        fleet.emperor = fleet.orphans.popen(
            ["emperor", "start", "vassals"],
            executable=shim,
            cwd=place,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    wait_for(lambda: "try http" in fleet.log(), 20, fleet.log)
    expect_lines([line.replace("8080", port) for line in start_says], fleet.log())

    for command, says in steps(second):
        if command.startswith("emperor status"):
            wait_for(lambda: "reloaded" in fleet.log(), 10, fleet.log)
            wait_for(lambda: not fleet.status()["vassals"][0]["draining"], 10, fleet.summary)
        done = subprocess.run(
            ["bash", "-ec", command.replace("8080", port)],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        expect_lines([line for line in says if line != "…"], done.stdout)
    expect_lines(third.splitlines(), fleet.log())
    assert fleet.stop(signal.SIGINT) == 0


def test_the_demo_shows_progress_and_addresses_that_answer(fleet: Fleet) -> None:
    port = fleet.http_port
    said_path = fleet.root / "demo.log"
    with said_path.open("wb") as said:
        demo = fleet.orphans.popen(
            [sys.executable, "ops/demo.py", "ops/vassals.example", "--http", f"127.0.0.1:{port}"],
            cwd=PROJECT,
            env={**os.environ, "TMPDIR": str(fleet.root)},
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    wait_for(lambda: "Ctrl-C ends it" in said_path.read_text(), 30, said_path.read_text)
    said_text = said_path.read_text()
    assert "REFUSED" not in said_text
    commands = re.findall(r"^ {2}(curl .*)$", said_text, re.MULTILINE)
    assert len(commands) >= 7
    shutil.copy(PROJECT / "Makefile", fleet.root)  # the one that is uploaded
    for command in commands:
        done = subprocess.run(
            ["bash", "-ec", f"{command} --silent --show-error --fail"],
            cwd=fleet.root,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert done.returncode == 0, (command, done.stderr)
        assert done.stdout
    assert fetch(port, "counter.localhost").text.startswith("Visit number 1,")
    # What the terminal does at Ctrl-C: the whole foreground group.
    os.killpg(demo.pid, signal.SIGINT)
    assert demo.wait(12) == 0


@pytest.mark.parametrize("kind", ["ini", "toml"])
def test_the_quickstart_s_vassals_have_known_keys(fleet: Fleet, kind: str) -> None:
    shown = re.search(
        rf"```{kind}\n(# /etc/vassals/.*?)```", (PROJECT / "docs/quickstart.md").read_text(), re.DOTALL
    )
    assert shown is not None
    fleet.write(f"shown.{kind}", shown.group(1))
    checked = fleet.check()
    # Its paths and users are not on this machine; every key and form of value has to be known.
    complaints = [line for line in (checked.stdout + checked.stderr).splitlines() if f"shown.{kind}:" in line]
    assert all(re.search(r": (chdir|virtualenv|uid|module|wsgi-file):", line) for line in complaints), (
        complaints
    )
