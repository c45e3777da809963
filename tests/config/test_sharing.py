import json
from pathlib import Path
from typing import Any

import pytest

from emperor.config import ConfigError, load_vassal
from emperor.config.problems import Mistake
from emperor.config.sharing import ALONE, Sharing, mirrored, share_key


def load(tmp_path: Path, text: str) -> Any:
    (tmp_path / "app.py").write_text("")
    path = tmp_path / "shop.ini"
    path.write_text(f"[uwsgi]\nwsgi-file = app.py\n{text}")
    return load_vassal(path, directory=tmp_path)


def test_what_a_file_says(tmp_path: Path) -> None:
    assert load(tmp_path, "").sharing == ALONE
    found = load(tmp_path, "weight = 5\nweight-by = header X-User\nmirror = next 2.5\n").sharing
    assert found == Sharing(5, "header X-User", "next", 2.5)
    assert Sharing.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert load(tmp_path, "weight = 0\n").sharing.shares


def test_what_is_of_no_effect_is_said(tmp_path: Path) -> None:
    (warning,) = load(tmp_path, "weight-by = request\n").warnings
    assert "shop.ini:3: weight-by: has no effect without a weight" in str(warning)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("weight = much", "shop.ini:3: weight: 'much' is not a whole number"),
        ("weight = -1", "weight: '-1' is not a whole number"),
        ("weight = 5%%", "is not a whole number"),
        ("weight = 1000001", "out of range"),
        ("weight-by = luck", "'luck' is nothing to know a client by (write cookie, request, address"),
        ("weight-by = header", "nothing to know a client by"),
        ("weight-by = cookie a b", "nothing to know a client by"),
        ("mirror = shop", "shop.ini:3: mirror: shop is this vassal itself (name another"),
        ("mirror = next 0%", "'next 0%' is no vassal and share of its requests (write NAME for all"),
        ("mirror = next 101", "is no vassal and share"),
        ("mirror = next % 1", "is no vassal and share"),
        ("mirror = next nan", "is no vassal and share"),
        ("mirror =", "mirror: "),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"{line}\n")
    assert said in str(caught.value)


@pytest.mark.parametrize("value", [None, True, 5, ["a"]])
def test_what_is_no_text(value: Any) -> None:
    for parse in (share_key, mirrored):
        with pytest.raises(Mistake):
            parse(value)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "an object expected"),
        ({"weight": "5"}, "sharing.weight: "),
        ({"weight": True}, "sharing.weight: "),
        ({"weight": -2}, "sharing.weight: "),
        ({"by": 1}, "sharing.by: str expected"),
        ({"mirror": None}, "sharing.mirror: str expected"),
        ({"mirror_share": 0}, "sharing.mirror_share: "),
    ],
)
def test_what_another_version_may_have_written(document: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Sharing.from_json(document)
    assert Sharing.from_json({"later": 1}) == ALONE


def test_a_part_for_a_next_generation(tmp_path: Path) -> None:
    for line in ("canary = 5 10m", "canary = 5%% for 600"):
        found = load(tmp_path, f"{line}\n").reloading
        assert (found.canary_share, found.canary_s) == (5.0, 600.0)
    assert load(tmp_path, "").reloading.canary_s == 0.0
    (warning,) = load(tmp_path, "canary = 0.5 1h\nreload-style = rolling\n").warnings
    assert "shop.ini:3: canary: has no effect with reload-style = rolling" in str(warning)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            "5%",
            "is not a share and a duration (write how many in a hundred requests and for how long, as 5 10m)",
        ),
        ("10m", "is not a share and a duration"),
        ("5% 10m 3", "is not a share and a duration"),
        ("0% 10m", "is out of range"),
        ("100 10m", "is out of range"),
        ("5% 0", "is out of range"),
        ("5% 1000d", "is out of range"),
        ("5% soon", "is not a duration"),
    ],
)
def test_what_is_no_part(tmp_path: Path, value: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"canary = {value}\n")
    assert "shop.ini:3: canary: " in str(caught.value) and said in str(caught.value)
