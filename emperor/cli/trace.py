"""`emperor trace NAME`: where the workers of a vassal are, without ending them; where requests are that go to upstreams."""

from __future__ import annotations

import json
from typing import Any, Final

import click

from emperor.cli.client import ask, connected, no_place, which_emperor
from emperor.stats.answering import spelled

_ELSEWHERE: Final = {
    "upstreams": "it has no workers: its requests go to upstreams",
    "remote": "its workers are on other hosts (remote = true): `emperor trace` there shows where they are",
}
_STATES: Final = {
    "in": "takes requests",
    "warming": "takes requests, few at first",
    "ejected": "is left out for {out_for_s} s more after failures in a row",
    "down": "is left out until its health check passes",
}
_PHASES: Final = {
    "connecting": "is being connected",
    "sending": "is being sent",
    "waiting": "waits for its answer",
    "answering": "is being answered",
    "tunnel": "is a WebSocket",
}


@click.command()
@click.argument("name", callback=no_place)
@which_emperor
@click.option("--json", "as_json", is_flag=True, help="Print it as one JSON object.")
def trace(name: str, directory: str | None, run_dir: str | None, as_json: bool) -> None:
    """Show the stacks of all threads of each worker of vassal NAME, and which requests it runs.

    The workers go on, also one that C code holds up. Of a thread the innermost call comes first; of a greenlet
    (gevent) it comes last. A vassal with upstreams has no workers: then they are shown, with what they have to do.

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
    if found["elsewhere"]:
        lines.append(f"{found['name']}: {_ELSEWHERE[found['elsewhere']]}")
    for each in found["upstreams"]:
        lines.append(f"{found['name']}: upstream {spelled(each)} {_how(each)}")
        lines += [
            f"  {one['request']} {_PHASES[one['phase']]}, {one['arrived_ms'] / 1000:.1f} s after it arrived"
            for one in each["now"]
        ]
    if found["elsewhere"] == "upstreams" and not found["upstreams"] and not found["missing"]:
        lines.append(f"{found['name']}: the router knows of none now")
    lines += [f"{found['name']}: {text}" for text in found["missing"]]
    return lines or [f"{found['name']}: it has no worker now"]


def _how(upstream: dict[str, Any]) -> str:
    """What it gets, and what went wrong there last."""
    said = _STATES[upstream["state"]].format(**upstream)
    said += " (backup)" if upstream["backup"] else ""
    failed = upstream["failures_in_a_row"] or upstream["state"] == "down"
    said += f", and failed last: {upstream['last_failure']}" if failed else ""
    said += " (it has been reached since)" if failed and _reached(upstream) else ""
    return said if upstream["now"] else f"{said}; it has none now"


def _reached(upstream: dict[str, Any]) -> bool:
    """Since it failed; whose health check does not pass has not been, whatever came about."""
    return upstream["state"] != "down" and bool(upstream.get("reached"))
