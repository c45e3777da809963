"""`emperor options`: every option a vassal's file can have, from the same tables that read it."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from emperor.config import options as table
from emperor.config import schema, settings, uwsgi
from emperor.config.dialect import KEYWORDS
from emperor.config.options import NAMES, OPTIONS, Kind, Option
from emperor.config.uwsgi import Answer

_ANSWERS = {
    Answer.HOLDS: "uWSGI's. Always so here",
    Answer.MISSING: "uWSGI's. Without effect here: a warning",
    Answer.GUARD: "uWSGI's. REFUSED, since ignoring it would open a door",
    Answer.UNREAD: "uWSGI's. An error: it would be read by uWSGI and is not read here",
    Answer.DIALECT: "Says how the file is read",
}


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.option("--schema", "as_schema", is_flag=True, help="Print the JSON schema of a vassal's file.")
def options(names: tuple[str, ...], as_json: bool, as_schema: bool) -> None:
    """Say what options there are, or what NAME is.

    NAME may be any option of uWSGI's, too: then the answer says what becomes of it here. Exit code 1 if a name
    is nobody's.

    \b
    Examples:
      emperor options
      emperor options processes harakiri
      emperor options --schema > vassal.schema.json
    """
    if as_schema:
        click.echo(schema.text(), nl=False)
        return
    if not names:
        if as_json:
            click.echo(json.dumps([_record(option) for option in OPTIONS], indent=2, ensure_ascii=False))
            return
        width = max(len(option.name) for option in OPTIONS)
        kinds = max(len(kind_of(option)) for option in OPTIONS)
        for option in OPTIONS:
            first = option.text.split(". ")[0].rstrip(".")
            click.echo(f"{option.name:{width}}  {kind_of(option):{kinds}}  {first}.")
        return
    answers = [_answer(name) for name in names]
    if as_json:
        click.echo(json.dumps(answers, indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(_shown(answer) for answer in answers), nl=False)
    sys.exit(1 if any(answer["is"] == "unknown" for answer in answers) else 0)


def _answer(name: str) -> dict[str, Any]:
    """What can be said of one name. `is` is option, setting, uwsgi or unknown."""
    if name in NAMES:
        return {"is": "option", "asked": name, **_record(NAMES[name])}
    if name in settings.NAMES:
        row = settings.NAMES[name]
        return {"is": "setting", "asked": name, **_record(row), "flag": row.flag, "variable": row.variable}
    known = uwsgi.look_up(name)
    if known is not None:
        return {
            "is": "uwsgi",
            "asked": name,
            "name": name,
            "kind": known.kind,
            "answer": known.answer.value,
            "verdict": _ANSWERS[known.answer],
            "text": known.text or "there is nothing of the kind here",
        }
    if name in KEYWORDS:
        verdict = _ANSWERS[Answer.DIALECT]
        return {
            "is": "uwsgi",
            "asked": name,
            "name": name,
            "kind": "logic",
            "answer": Answer.DIALECT.value,
            "verdict": verdict,
            "text": "turns or ends a block",
        }
    return {"is": "unknown", "asked": name, "nearest": table.nearest(name) or uwsgi.nearest(name)}


def _record(option: Option) -> dict[str, Any]:
    default = option.default
    return {
        "name": option.name,
        "aliases": list(option.aliases),
        "kind": kind_of(option),
        "repeatable": option.kind.repeats,
        "default": list(default) if isinstance(default, tuple) else default,
        "choices": list(option.choices),
        "since": option.since,
        "text": option.text,
    }


def _shown(answer: dict[str, Any]) -> str:
    if answer["is"] == "unknown":
        near = answer["nearest"]
        return f"{answer['asked']}: nobody's option{f'; did you mean {near}?' if near else ''}\n"
    if answer["is"] == "uwsgi":
        return f"{answer['name']} ({answer['kind']})\n  {answer['verdict']}.\n  {_sentence(answer['text'])}\n"
    heading = f"{answer['name']}: {answer['kind']}"
    if answer["asked"] != answer["name"]:
        heading = f"{answer['asked']} is {heading}"
    lines = [heading, f"  {answer['text']}"]
    if answer["aliases"]:
        lines.append(f"  also written: {', '.join(answer['aliases'])}")
    if answer["default"] not in (None, [], ""):
        default = answer["default"]
        lines.append(f"  default: {'true' if default is True else 'false' if default is False else default}")
    if answer["is"] == "setting":
        lines.append(
            f"  a setting of the emperor's, no option of a vassal: {answer['flag']}, {answer['variable']}"
        )
    lines.append(f"  since {answer['since']}")
    return "\n".join(lines) + "\n"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def kind_of(option: Option) -> str:
    """The type of an option as the reference page writes it."""
    return " or ".join(option.choices) if option.kind is Kind.CHOICE else str(option.kind.value)
