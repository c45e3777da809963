"""The JSON schema of a vassal's file, for editors, from the same tables as everything else.

It knows each value by itself: what values say together, and what they refer to, only `emperor check` knows. So a key
of the file's own that a ``%(key)`` refers to is unknown to it: better so than to let every typo pass. INI has no schema;
values of TOML, YAML and JSON have.
"""

import json
from pathlib import Path
from typing import Any

from emperor.config import uwsgi
from emperor.config.dialect import KEYWORDS
from emperor.config.entries import SECTIONS
from emperor.config.options import NAMES, OPTIONS, Kind, Option
from emperor.config.uwsgi import Answer

FILE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "vassal.schema.json"

_TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
_VARIABLE = r"[%$@]\("
_OPEN = {"type": ["string", "number", "boolean", "array", "object", "null"]}


def schema() -> dict[str, Any]:
    """The schema (JSON Schema 2020-12), ready for `json.dumps`."""
    properties: dict[str, Any] = {}
    for option in OPTIONS:
        for name in (option.name, *option.aliases):
            properties[name] = _option(option, name)
    definitions: dict[str, Any] = {}
    for name in sorted((*uwsgi.kinds(), *KEYWORDS)):
        known = uwsgi.look_up(name)
        if name in NAMES or (known is not None and known.answer in (Answer.GUARD, Answer.UNREAD)):
            continue
        properties[name] = {"$ref": f"#/$defs/{_define(known, definitions)}"}
    definitions["options"] = {
        "type": "object",
        "description": "A key of your own, for %(key), is unknown here: write it as set-ph = key=value.",
        "properties": properties,
        "additionalProperties": False,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A vassal of emperor-vassals, as TOML, YAML or JSON",
        "oneOf": [
            {"$ref": "#/$defs/options"},
            *(_section(name) for name in SECTIONS),
        ],
        "$defs": definitions,
    }


def _section(name: str) -> dict[str, Any]:
    """A file whose options are all in one table. Other tables are passed over; an option beside it is an error."""
    outside = {each: False for each in SECTIONS if each != name}
    outside |= {each: False for each, option in NAMES.items() if option.kind.is_table}
    return {
        "type": "object",
        "properties": {name: {"$ref": "#/$defs/options"}, **outside},
        "required": [name],
        "additionalProperties": {"type": "object"},
    }


def _define(known: uwsgi.Known | None, definitions: dict[str, Any]) -> str:
    """The name of the definition that says what becomes of an option of uWSGI's."""
    answer = Answer.DIALECT if known is None else known.answer
    text = {
        Answer.HOLDS: "Always so here: ",
        Answer.MISSING: "uWSGI's, without effect here. ",
        Answer.DIALECT: "Says how the file is read: ",
    }[answer] + (known.text if known else "ends or turns a block")
    for name, definition in definitions.items():
        if definition["description"] == text:
            return name
    name = f"{answer.value}-{sum(each.startswith(answer.value) for each in definitions) + 1}"
    definitions[name] = {**_OPEN, "description": text}
    return name


def _option(option: Option, name: str) -> dict[str, Any]:
    item = _item(option)
    described: dict[str, Any] = {"description": option.text}
    if name != option.name:
        described["description"] = f"The same as {option.name}. {option.text}"
    elif option.default not in (None, ()) and isinstance(option.default, (bool, int, float, str)):
        described["default"] = option.default
    if not option.kind.repeats:
        return {**item, **described}
    forms = [item, {"type": "array", "items": item}]
    if option.kind is Kind.VARIABLES:
        forms.append({"type": "object", "additionalProperties": {"type": ["string", "integer"]}})
    if option.kind in (Kind.PATH_LIMITS, Kind.PATH_COUNTS):
        forms.append({"type": "object", "additionalProperties": {"type": ["string", "number"]}})
    return {"anyOf": forms, **described}


def _item(option: Option) -> dict[str, Any]:
    """What one value may be. Text may hold variables, whatever the type."""
    bounds: dict[str, Any] = {"minimum": option.least}
    if option.most != float("inf"):
        bounds["maximum"] = option.most
    match option.kind:
        case Kind.FLAG:
            return {"enum": [True, False, None, *["true", "yes", "on", "1", "false", "no", "off", "0"]]}
        case Kind.COUNT:
            return _numeric("integer", r"[0-9]+", bounds)
        case Kind.DURATION:
            return _numeric("number", r"[0-9]+(\.[0-9]+)?(ms|s|m|h|d)?", bounds)
        case Kind.SIZE | Kind.MEGABYTES:
            return _numeric("integer", r"[0-9]+[kmgKMG]?", bounds)
        case Kind.CONCURRENCY:
            return {"anyOf": [_TEXT, {"type": "integer", "minimum": 1, "maximum": 16384}]}
        case Kind.CHOICE if option.choices:
            return {"enum": list(option.choices)}
        case Kind.USER | Kind.GROUP | Kind.OWNER:
            return {"anyOf": [_TEXT, {"type": "integer", "minimum": 0}]}
        case Kind.MODE:
            return {
                "anyOf": [_TEXT, {"type": "integer", "minimum": 0, "maximum": 777}, {"enum": [True, None]}]
            }
        case Kind.PEERS | Kind.WORDS:
            return {"anyOf": [{"type": "string"}, {"type": "array", "items": _TEXT}]}
    return _TEXT


def _numeric(kind: str, written: str, bounds: dict[str, Any]) -> dict[str, Any]:
    text = {"type": "string", "pattern": f"^({written})$|{_VARIABLE}|%[a-zA-Z]"}
    return {"anyOf": [{"type": kind, **bounds}, text]}


def text() -> str:
    """The schema as the file holds it."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"
