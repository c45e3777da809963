import subprocess
import sys

import pytest

import emperor.config


def test_every_name_that_is_promised_is_there() -> None:
    for name in emperor.config.__all__:
        assert getattr(emperor.config, name).__name__ == name


def test_no_other_name_is() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'load_vasal'"):
        emperor.config.load_vasal  # noqa: B018


def test_a_worker_that_reads_its_specification_loads_no_parser() -> None:
    code = "import sys, emperor.config.spec; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert "emperor.config.spec" in loaded
    assert not {"emperor.config.loading", "emperor.config.options", "emperor.config.uwsgi", "tomllib"} & set(
        loaded
    )


def test_it_stands_on_the_standard_library_alone() -> None:
    code = "import sys, emperor.config.loading, emperor.config.reference; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    ours = [
        name
        for name in loaded
        if name.startswith(("emperor.", "vassals")) and not name.startswith("emperor.config")
    ]
    assert ours == []
    assert not {"zmq", "click", "rich", "watchdog", "socket", "asyncio"} & set(loaded)
