"""The app of `vassals.rehearsal`. Nobody ever asks it for anything."""

from typing import Any


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("204 No Content", [])
    return []
