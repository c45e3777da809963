"""What a page of docs/specs says of tests: its rows, and the tests that it names."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
HEADINGS = ("| ---", "| clause", "| what")


def page(name: str) -> str:
    return (ROOT / "docs" / "specs" / name).read_text("utf-8")


def rows(text: str) -> list[str]:
    """Of its tables, without their headings."""
    return [line for line in text.splitlines() if line.startswith("| ") and not line.startswith(HEADINGS)]


def named(text: str) -> list[tuple[str, str]]:
    """File and function of each test."""
    return re.findall(r"`(tests/[\w/.]+)::(\w+)`", text)


def missing(text: str) -> list[str]:
    """Those that do not exist."""
    return [
        f"{path}::{name}"
        for path, name in named(text)
        if f"def {name}(" not in (ROOT / path).read_text("utf-8")
    ]
