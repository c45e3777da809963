"""Files in ranges, as Flask and Werkzeug cut them; Django sends no ranges, whatever the server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import Connection, Fleet, Orphans
from .harness.fleet import APPS

FRAMEWORKS = {"flask": "flask_shop:app", "werkzeug": "werkzeug_shop"}


@pytest.fixture(scope="module")
def ranged() -> Iterator[tuple[Fleet, Path]]:
    orphans = Orphans()
    orphans.start()
    fleet = Fleet(orphans)
    path = fleet.root / "file.txt"
    path.write_bytes(bytes(range(256)) * 2000)
    for framework in FRAMEWORKS:
        fleet.vassal(framework, pythonpath=APPS, module=FRAMEWORKS[framework])
    fleet.start()
    yield fleet, path
    fleet.close()
    orphans.close()


@pytest.mark.parametrize(
    ("wanted", "status", "start", "end"),
    [("10-19", 206, 10, 20), ("0-0", 206, 0, 1), ("511990-", 206, 511_990, None), ("-5", 206, -5, None),
     ("100-400000", 206, 100, 400_001), ("512000-", 416, 0, 0)],
)  # fmt: skip
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_ranges_of_a_file(
    ranged: tuple[Fleet, Path], framework: str, wanted: str, status: int, start: int, end: int | None
) -> None:
    fleet, path = ranged
    content = path.read_bytes()
    with Connection(fleet.http_port) as client:
        answer = client.request(
            framework + ".localhost", f"/file?path={path}", fields={"Range": f"bytes={wanted}"}
        )
        assert answer.status == status
        if status == 206:
            part = content[start:end]
            assert answer.body == part
            at = start % len(content)
            assert answer.fields["content-range"] == f"bytes {at}-{at + len(part) - 1}/{len(content)}"
        stale = {"Range": f"bytes={wanted}", "If-Range": '"another"'}
        assert client.request(framework + ".localhost", f"/file?path={path}", fields=stale).body == content
