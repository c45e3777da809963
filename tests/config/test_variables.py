from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperor.config import variables
from emperor.config.entries import Entry, Line, Owner
from emperor.config.problems import Mistake
from emperor.config.variables import Expansion, Place, System

FIRST = Place("/etc/vassals/shop/blog.example.ini", "blog.example.ini", "", 17)
BASE = Place("/srv/base.d/defaults.ini", "base.d/defaults.ini", "web", 18)
SYSTEM = System(
    directory="/etc/vassals",
    hostname="web1",
    cores=4,
    uid=0,
    user="root",
    gid=7,
    group="wheel",
    now_us=1_700_000_000_123_456,
    version="0.1",
    binary="/usr/bin/emperor",
)
LINE = Line("f.ini", 1, "key", "")
ENTRIES = {
    "name": "blog",
    "path": "/srv/%(name)",
    "deep": "%(path)/x",
    "bare": None,
    "loop": "a%(pool)",
    "pool": "b%(loop)",
    "self": "%(self)",
    "num": "4",
    "negative": "-7",
    "text": "3abc",
    "great": "9223372036854775807",
    "yes": True,
    "list": ["a"],
}


def expansion(**entries: object) -> Expansion:
    files = {"/secret": "s%(name)t", "/run/blog": "found"}
    one = Expansion(
        {"HOME": "/root", "RATE": "50%n", "P": "%(name) %(nope)", "LC_ALL": "C"}, lambda name, _: files[name]
    )
    for key, value in {**ENTRIES, **entries}.items():
        one.define(Entry(key, value, 2))
    return one


@pytest.mark.parametrize(
    ("text", "here", "there"),
    [
        ("plain", "plain", "plain"),
        ("%n %s %e", "blog.example blog.example.ini ini", "defaults defaults.ini ini"),
        ("%N %S %E", "blog.example blog.example.ini ini", "blog.example blog.example.ini ini"),
        ("%p|%d", "/etc/vassals/shop/blog.example.ini|/etc/vassals/shop/", "/srv/base.d/defaults.ini|/srv/base.d/"),
        ("%c", "shop", "base.d"),
        ("%P|%D|%C", *("/etc/vassals/shop/blog.example.ini|/etc/vassals/shop/|shop",) * 2),
        ("%o|%O", "blog.example.ini|blog.example.ini", "base.d/defaults.ini|blog.example.ini"),
        ("%x|%X", "|", "web|"),
        ("%i|%I", "17|17", "18|17"),
        ("%0|%1|%2|%3", "etc|vassals|shop|", "srv|base.d||"),
        ("%v %V %h %k %u %U %g %G", *("/etc/vassals 0.1 web1 4 0 root 7 wheel",) * 2),
        ("%t %T %b", *("1700000000 1700000000123456 /usr/bin/emperor",) * 2),
        ("%[0m", *("\0330m",) * 2),
        ("100%%, %%n", *("100%, %n",) * 2),
        ("%(name) %%(name)", *("%(name) %(name)",) * 2),
        ("100%", *("100%",) * 2),
    ],
)  # fmt: skip
def test_letters(text: str, here: str, there: str) -> None:
    unknown: list[str] = []
    assert variables.letters(text, FIRST, FIRST, SYSTEM, unknown) == here
    assert variables.letters(text, BASE, FIRST, SYSTEM, unknown) == there
    assert unknown == []


def test_the_hash_is_uwsgis() -> None:
    place = Place("/tmp/dialect-t/d.ini", "d.ini")
    assert variables.letters("%j", place, place, SYSTEM, []) == "6CB2DBA6"  # printed by uWSGI 2.0.31


def test_what_is_no_letter_stays_and_is_told() -> None:
    unknown: list[str] = []
    assert variables.letters("%z 5% off %-", FIRST, FIRST, SYSTEM, unknown) == "%z 5% off %-"
    assert unknown == ["%z", "% ", "%-"]


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("plain", "plain"),
        ("", ""),
        ("%n 100%% $x @y", "%n 100%% $x @y"),
        ("%(name)", "blog"),
        ("%(deep)", "/srv/blog/x"),
        ("<%(bare)>", "<>"),
        ("%(yes)", "true"),
        ("$(HOME)/app", "/root/app"),
        ("$(RATE)", "50%n"),
        ("<$(NOPE)>", "<>"),
        ("$(P)", "blog %(nope)"),
        ("@(/secret)", "sblogt"),
        ("@(/run/%(name))", "found"),
        ("%(num + 1)", "5"),
        ("%(num + 1 * 2)", "10"),
        ("%(num - 10)", "-6"),
        ("%(negative / 2)", "-3"),
        ("%(7 / num)", "1"),
        ("%(num ++)", "5"),
        ("%(num --)", "3"),
        ("%(num ++ num)", "54"),
        ("%(num 5)", "45"),
        ("%(num 5 + 1)", "46"),
        ("%(name num)", "blog4"),
    ],
)
def test_values(text: str, expanded: str) -> None:
    assert expansion().expand(text, LINE) == expanded


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("%(nope)", "%(nope) refers to no key of this file"),
        ("%(num+1)", "%(num+1) refers to no key of this file"),
        ("%(loop)", "%(loop) refers to itself"),
        ("%(self)", "%(self) refers to itself"),
        ("%(%(name))", "a placeholder stands inside a placeholder"),
        ("%(num / 0)", "%(num / 0) divides by zero"),
        ("%(text + 1)", "%(text + 1) calculates with '3abc', which is no whole number"),
        ("%(num + nope)", "%(nope) refers to no key of this file"),
        ("%(great + 1)", "%(great + 1) is beyond 64 bits"),
        ("%(num +)", None),
        ("%(num + )", "%(num + ) ends with +"),
        ("%(+ num)", "%(+ num): + stands where a value belongs"),
        ("%(num + * 2)", "%(num + * 2): * stands where a value belongs"),
        ("%(list)", "refers to a list or a table"),
        ("@(exec://date)", "@(exec://…) is refused"),
        ("@(http://x/y)", "@(http://…) is refused"),
        ("@(call://f)", "@(call://…) is refused"),
        ("@(sym://s)", "@(sym://…) is refused"),
        ("@(data://0)", "@(data://…) is refused"),
        ("@(fd://3)", "@(fd://…) is refused"),
        ("@()", "@() names no file"),
    ],
)
def test_mistakes(text: str, reason: str | None) -> None:
    with pytest.raises(Mistake) as caught:
        expansion().expand(text, LINE)
    if reason is not None:
        assert caught.value.reason == reason
        assert caught.value.hint or "by zero" in reason or "whole" in reason or "64 bits" in reason


def test_a_template_keeps_what_is_not_ours() -> None:
    one = expansion(fmt="%(uri) %(name) %(addr)", addr="x")
    own = frozenset(("uri", "addr"))
    assert one.expand("%(uri) %(name) %(a + b)", LINE, own=own) == "%(uri) blog %(a + b)"
    assert one.expand("%(fmt)", LINE, own=own) == "%(uri) blog %(addr)"
    assert one.expand("%(addr)", LINE) == "x"


def test_a_file_of_another_user_is_not_told_of_the_environment() -> None:
    one, tenant = expansion(), Line("f.ini", 1, "key", "", owner=Owner(1000))
    assert one.expand("<$(HOME)$(LC_ALL)>", tenant) == "<C>"
    assert [reason for reason, _ in one.unset] == ["$(HOME) is kept from a file of another user's"]


def test_variables_that_are_not_set_are_remembered() -> None:
    one = expansion()
    one.expand("$(NOPE) $(HOME) $(GONE)", LINE)
    assert [reason.partition(" ")[0] for reason, _ in one.unset] == ["$(NOPE)", "$(GONE)"]


def test_placeholders_that_double_each_other_end_soon() -> None:
    doubling = {f"k{number}": f"%(k{number + 1})" * 2 for number in range(40)}
    with pytest.raises(Mistake, match="grows beyond 65536 characters"):
        expansion(**doubling, k40="xx").expand("%(k0)", LINE)
    assert expansion(**doubling, k40="").expand("%(k0)", LINE) == ""


def test_placeholders_may_not_stand_too_deep() -> None:
    chain = {f"k{number}": f"%(k{number + 1})" for number in range(2000)}
    with pytest.raises(Mistake, match="more than 50 deep"):
        expansion(**chain, k2000="").expand("%(k0)", LINE)


def test_all_values_together_are_bounded() -> None:
    one = expansion(x="a" * 60_000)
    for _ in range(100):
        one.expand("%(x)", LINE)
    with pytest.raises(Mistake, match="characters in all"):
        deque((one.expand("%(x)", LINE) for _ in range(100)), maxlen=0)


def test_references() -> None:
    values = ["%(a)/%(b)", None, "%(c + 2)", "$(e)", "plain", ["%(f)", {"x": "%(g)"}], 3]
    assert variables.references(values) == {"a", "b", "c", "+", "2", "f", "g"}


@given(st.text("%()$@abn +-*/1", max_size=30))
def test_any_text_expands_or_is_a_mistake(value: str) -> None:
    one = Expansion({"a": "1"}, lambda name, line: name)
    one.define(Entry("a", value, 1))
    one.define(Entry("b", "%(a)", 2))
    try:
        one.expand(value, LINE)
    except Mistake as mistake:
        assert str(mistake)  # noqa: PT017
