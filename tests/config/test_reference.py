import tomllib
from pathlib import Path

import pytest

from emperor.config import load_vassal, reference
from emperor.config.options import NAMES


@pytest.mark.parametrize("path", reference.PAGES, ids=lambda path: path.name)
def test_the_page_on_disk_is_current(path: Path) -> None:
    assert path.read_text("utf-8") == reference.PAGES[path](), "run: python -m emperor.config.reference"


def test_every_name_is_on_the_page() -> None:
    page = reference.page()
    for name in NAMES:
        assert f"`{name}`" in page


def test_the_examples_on_the_page_can_be_read(tmp_path: Path) -> None:
    page = reference.page()
    (tmp_path / "srv").mkdir()
    for suffix in ("ini", "toml"):
        example = (
            page.partition(f"```{suffix}\n")[2]
            .partition("```")[0]
            .replace("/srv/blog", str(tmp_path / "srv"))
        )
        path = tmp_path / f"blog.{suffix}"
        path.write_text(example)
        assert load_vassal(path, directory=tmp_path).processes == 4
    assert tomllib.loads(example)["env"]
