"""`emperor trace NAME`: where the workers of a vassal are, without ending them."""

from __future__ import annotations

import json
from typing import Any

import click

from emperor.cli.client import ask, connected, which_emperor


@click.command()
@click.argument("name")
@which_emperor
@click.option("--json", "as_json", is_flag=True, help="Print it as one JSON object.")
def trace(name: str, directory: str | None, run_dir: str | None, as_json: bool) -> None:
    """Show the stacks of all threads of each worker of vassal NAME, and which requests it runs.

    The workers go on, also one that C code holds up. Of a thread the innermost call comes first; of a greenlet
    (gevent) it comes last.

    \b
    Examples:
      emperor trace blog
      emperor trace blog --json | jq '.workers[].requests'
    """
    with connected(directory, run_dir) as channel:
        found = ask(channel, {"op": "trace", "name": name})["trace"]
    click.echo(json.dumps(found, indent=1) if as_json else "\n".join(lines_of(found)))


def lines_of(found: dict[str, Any]) -> list[str]:
    """The trace as text."""
    lines: list[str] = []
    for worker in found["workers"]:
        lines.append(
            f"{found['name']}: worker {worker['seat']} of generation {worker['generation']}, pid {worker['pid']}, "
            f"{worker['state']}{'' if worker['requests'] else ', runs no request'}"
        )
        for each in worker["requests"]:
            gone = "" if each["wanted"] else "; nobody waits for it any more"
            lines.append(f"  {each['request']} has run for {each['ran_ms'] / 1000:.1f} s{gone}")
        lines += [f"    {line}" for line in worker["stacks"]]
        if not worker["stacks"]:
            lines.append(f"    no stacks: {worker['mute']}")
    lines += [f"{found['name']}: {text}" for text in found["missing"]]
    return lines or [f"{found['name']}: it has no worker now"]
