"""Files in the style of real ones, each with what becomes of it (`corpus.txt`)."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from emperor.config import schema
from emperor.config.loading import Examination, examine

TEXT = Path(__file__).with_name("corpus.txt").read_text("utf-8")
FILES = {
    match[1]: (match[2].split(), match[3])
    for match in re.finditer(r"^=== (\S+): ([^\n]*)\n(.*?)(?=^=== |\Z)", TEXT, re.MULTILINE | re.DOTALL)
}
RIGHT = [name for name, (verdict, _) in FILES.items() if verdict == ["right"]]
VALIDATOR = jsonschema.Draft202012Validator(schema.schema())


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("srv") / "app"
    for directory in ("lib", "vendor", "static", "media", "public", "venv"):
        (root / directory).mkdir(parents=True)
    for file in ("wsgi.py", "app.py", "venv/pyvenv.cfg"):
        (root / file).write_text("")
    (root / "secret").write_text("s3cret\n")
    return root


def examined(name: str, app: Path) -> Examination:
    directory = app.parent / "vassals"
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(FILES[name][1].replace("/srv/app", str(app)))
    return examine(path, directory=directory, environ={})


def test_there_are_enough_of_them() -> None:
    assert len(FILES) >= 70
    assert len(FILES) == TEXT.count("\n=== ")


@pytest.mark.parametrize("name", FILES)
def test_each_gets_its_verdict(name: str, app: Path) -> None:
    verdict, _ = FILES[name]
    found = examined(name, app)
    keys = sorted({problem.key or "-" for problem in found.problems})
    assert keys == ([] if verdict == ["right"] else sorted(verdict)), list(map(str, found.problems))
    assert all(
        problem.path and problem.reason for problem in (*found.problems, *found.warnings, *found.notes)
    )
    for problem in found.problems:
        assert problem.line is not None or problem.key is None


@pytest.mark.parametrize("name", RIGHT)
def test_no_line_of_a_right_file_is_left_without_a_meaning(name: str, app: Path) -> None:
    found = examined(name, app)
    silent = [line.key for line in found.lines if not line.outcomes]
    assert silent == []


@pytest.mark.parametrize("name", RIGHT)
def test_the_schema_knows_what_a_right_file_says(name: str, app: Path) -> None:
    """As if the lines had been written in JSON; keys that are only placeholders are not the schema's matter."""
    document: dict[str, Any] = {}
    for line in examined(name, app).lines:
        kinds = {outcome.kind for outcome in line.outcomes}
        if "placeholder" in kinds or line.key == "feature":
            continue
        written = [*line.written] if isinstance(line.written, list) else [line.written]
        if isinstance(line.written, dict):
            document[line.key] = line.written
        elif line.key in document and isinstance(document[line.key], list):
            document[line.key] += written
        elif line.key in document:
            document[line.key] = [document[line.key], *written]
        else:
            document[line.key] = written[0] if len(written) == 1 else written
    # A scalar that is set twice is a list in no format.
    document = {
        key: value[-1] if isinstance(value, list) and not VALIDATOR.is_valid({key: value}) else value
        for key, value in document.items()
    }
    errors = [
        f"{list(error.path)}: {error.message[:200]}" for error in VALIDATOR.iter_errors({"uwsgi": document})
    ]
    assert errors == []
