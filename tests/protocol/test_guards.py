import os
import runpy
import subprocess
import sys
from typing import Any

import pytest

from emperor.protocol import guards


def loaded(monkeypatch: pytest.MonkeyPatch, value: str | None) -> dict[str, Any]:
    """The names of a fresh load of the module in this environment; the one that others import stays as it is."""
    monkeypatch.delenv(guards.VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(guards.VARIABLE, value)
    return runpy.run_path(guards.__file__)


@pytest.mark.parametrize("value", [None, "", " ", ",", " , "])
def test_nothing_is_omitted_unless_a_test_says_so(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    module = loaded(monkeypatch, value)
    assert not any(module["omitted"](guard) for guard in guards.GUARDS)
    assert module["environment"]() == {}


@pytest.mark.parametrize("guard", sorted(guards.GUARDS))
def test_one_is_omitted(monkeypatch: pytest.MonkeyPatch, guard: str) -> None:
    module = loaded(monkeypatch, guard)
    assert {one for one in guards.GUARDS if module["omitted"](one)} == {guard}


def test_several_are_omitted_and_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    module = loaded(monkeypatch, " token, claim ,")
    assert {one for one in guards.GUARDS if module["omitted"](one)} == {"token", "claim"}
    assert module["environment"]() == {guards.VARIABLE: "claim,token"}
    again = loaded(monkeypatch, module["environment"]()[guards.VARIABLE])
    assert again["environment"]() == module["environment"]()


@pytest.mark.parametrize("value", ["claims", "claim,tokens", "Claim", "claim;token", "all"])
def test_a_guard_that_there_is_not_stops_the_process(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    with pytest.raises(RuntimeError, match=guards.VARIABLE):
        loaded(monkeypatch, value)


def test_the_error_names_what_is_wrong_and_what_would_be_right(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        RuntimeError, match="no guard of ours: sealing; known: claim, epoch, nonce, seals, token, uid"
    ):
        loaded(monkeypatch, "sealing,uid")


def test_it_is_read_once_when_the_process_starts() -> None:
    code = f"""
import os
from emperor.protocol import guards
os.environ[{guards.VARIABLE!r}] = "claim"
print(guards.omitted("claim"), guards.omitted("epoch"))
"""
    environment = {**os.environ, guards.VARIABLE: "epoch"}
    out = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=30
    )
    assert out.stdout.split() == ["False", "True"]
