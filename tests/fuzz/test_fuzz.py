"""The fuzzer in its short form, the inputs that it ever found, and that it notices what it is there to notice."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[2]
RUN = ROOT / "ops" / "fuzz" / "run.py"
FOUND = ROOT / "tests" / "wire" / "found"
SHORT = 30_000  # inputs of a codec of cost 1; about a second for each codec

sys.path.insert(0, str(RUN.parent))
from child import load  # noqa: E402
from codecs_table import BY_NAME, CODECS  # noqa: E402


def fuzz(*arguments: object) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, str(RUN), *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=110, check=False)


@pytest.mark.parametrize("codec", [codec.name for codec in CODECS])
def test_the_short_form(codec: str, tmp_path: Path) -> None:
    inputs = max(300, SHORT // BY_NAME[codec].cost)
    figures = tmp_path / "figures.json"
    ran = fuzz(codec, "--inputs", inputs, "--found", tmp_path / "found", "--json", figures)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    [row] = json.loads(figures.read_text())
    assert row["inputs"] == inputs
    # A fuzzer whose inputs are all refused at the first check tests that check.
    assert row["accepted"] > inputs // 200


def kept() -> list[Path]:
    return sorted(path for path in FOUND.glob("*/*") if path.is_file())


def test_what_was_found_once_is_not_found_again() -> None:
    for path in kept():
        codec = BY_NAME[path.parent.name]
        data, bits = load(path)
        with contextlib.suppress(*codec.refusals):
            codec.make()(data, bits)


# What it must notice: codecs with a fault each, as a table of their own

BROKEN = """
    import ctypes
    from codecs_table import Codec

    kept = []

    def crash(data, bits):
        if len(data) > 40:
            ctypes.string_at(8)
        return True

    def hang(data, bits):
        while len(data) > 40:
            pass
        return True

    def leak(data, bits):
        kept.append(data * 20)
        return True

    def undocumented(data, bits):
        if len(data) > 40:
            raise KeyError("of all things")
        raise ValueError

    def sound(data, bits):
        return bool(sum(data) & 1)

    def seeds():
        return [b"a" * 30, b"b" * 38]

    BY_NAME = {
        each.__name__: Codec(each.__name__, "", seeds, (b"xyz",), lambda each=each: each, (ValueError,))
        for each in (crash, hang, leak, undocumented, sound)
    }
"""


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[object, ...]:
    (tmp_path / "broken_table.py").write_text(dedent(BROKEN))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "--table", "broken_table", "--found", tmp_path / "found", "--deadline", "0.3"


@pytest.mark.parametrize(
    ("codec", "inputs", "says"),
    [
        ("crash", 2000, "SIGSEGV at input"),
        ("hang", 2000, "hang: "),
        ("leak", 40_000, "growth: "),
        ("undocumented", 2000, "KeyError('of all things') at input"),
    ],
)
def test_a_fault_is_noticed(
    codec: str, inputs: int, says: str, broken: tuple[object, ...], tmp_path: Path
) -> None:
    ran = fuzz(codec, "--inputs", inputs, *broken)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert says in ran.stdout
    if codec != "leak":
        saved = sorted((tmp_path / "found" / codec).iterdir())
        assert saved
        for path in saved:
            assert len(load(path)[0]) > 40, "not the input that did it"


def test_a_sound_codec_is_not_accused_and_a_seed_always_draws_the_same(
    broken: tuple[object, ...], tmp_path: Path
) -> None:
    accepted = []
    for seed in (7, 7, 8):
        figures = tmp_path / "figures.json"
        ran = fuzz("sound", "--inputs", 20_000, "--seed", seed, "--json", figures, *broken)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        accepted.append(json.loads(figures.read_text())[0]["accepted"])
    assert accepted[0] == accepted[1] != accepted[2]


def test_a_kept_input_is_repeated(tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"\0\0\0\0" + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    ran = fuzz("http1", "--repeat", path)
    assert (ran.returncode, ran.stdout) == (0, "accepted\n")


def test_an_unknown_codec_is_named() -> None:
    ran = fuzz("htp1")
    assert ran.returncode == 2
    assert "htp1" in ran.stderr and "http1" in ran.stderr
