"""`emperor events`: what happened to whom, when, why, and by whose hand."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

import click

from emperor.cli.client import ask, connected, no_place, which_emperor

FOLLOW_ANSWER_S = 45.0


@click.command()
@click.argument("name", required=False, callback=no_place)
@which_emperor
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0), default=50, help="At most so many of the past (50).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def events(
    name: str | None, directory: str | None, run_dir: str | None, follow: bool, lines: int, as_json: bool
) -> None:
    """Show what happened: to vassal NAME, or to all.

    When, to whom, what, why, and by whose hand. The emperor keeps the last two thousand for as long as it lives; its log
    has them all.

    \b
    Examples:
      emperor events
      emperor events -f blog
      emperor events --json | jq 'select(.kind == "rolled back")'
    """
    with connected(directory, run_dir) as channel:
        wish: dict[str, Any] = {"op": "events", "after": 0}
        if name is not None:
            wish["name"] = name
        answer = ask(channel, wish)
        found = answer["events"]
        past = found[max(0, len(found) - lines) :]
        if follow or past or not found:
            _print(past, as_json)
        while follow:
            try:
                answer = ask(channel, {**wish, "after": answer["last"], "follow": True}, FOLLOW_ANSWER_S)
            except KeyboardInterrupt:
                return
            if answer["lost"]:
                click.echo(
                    f"emperor: {answer['lost']} events came too fast to be kept: see the log", err=True
                )
            _print(answer["events"], as_json)


def _print(found: Iterable[dict[str, Any]], as_json: bool) -> None:
    for event in found:
        click.echo(json.dumps(event, ensure_ascii=False) if as_json else line_of(event))


def line_of(event: dict[str, Any]) -> str:
    """`2026-11-27 07:12:30.123  blog  rolled back  … (emperor reload, by root (pid 7))`."""
    seconds, millis = divmod(event["at"], 1000)
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) + f".{millis:03}"
    by = f" ({event['by']})" if event["by"] else ""
    text = " ".join(event["text"].split())
    return f"{when}  {event['vassal'] or '-'}  {event['kind']}: {text}{by}"
