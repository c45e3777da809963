import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperor.config import dialect
from emperor.config.dialect import Expansion, Place
from emperor.config.entries import Entry
from emperor.config.problems import Mistake

PLACE = Place("/etc/vassals/shop/blog.example.ini", "/etc/vassals")
ENTRIES = [
    Entry("name", "blog", 2),
    Entry("name", "shop", 3),
    Entry("path", "/srv/%(name)", 4),
    Entry("deep", "%(path)/%n", 5),
    Entry("bare", None, 6),
    Entry("loop", "a%(pool)", 7),
    Entry("pool", "b%(loop)", 8),
    Entry("self", "%(self)", 9),
]


def expansion() -> Expansion:
    return Expansion(ENTRIES, PLACE, {"HOME": "/root", "RATE": "50%n"})


@pytest.mark.parametrize(
    ("value", "expanded"),
    [
        ("plain", "plain"),
        ("", ""),
        ("%n", "blog.example"),
        ("%s", "blog.example.ini"),
        ("%e", "ini"),
        ("%p", "/etc/vassals/shop/blog.example.ini"),
        ("%d", "/etc/vassals/shop/"),
        ("%c", "shop"),
        ("%v", "/etc/vassals"),
        (
            "%N %S %E %P %D %C",
            "blog.example blog.example.ini ini /etc/vassals/shop/blog.example.ini /etc/vassals/shop/ shop",
        ),
        ("%dapp", "/etc/vassals/shop/app"),
        ("100%%", "100%"),
        ("%%n", "%n"),
        ("%%(name)", "%(name)"),
        ("100%", "100%"),
        ("%z %- % ", "%z %- % "),
        ("$x $ (x)", "$x $ (x)"),
        ("me@example.com", "me@example.com"),
        ("%(name)", "blog"),
        ("%(path)", "/srv/blog"),
        ("%(deep)", "/srv/blog/blog.example"),
        ("<%(bare)>", "<>"),
        ("$(HOME)/app", "/root/app"),
        ("$(RATE)", "50%n"),
        ("<$(NOPE)>", "<>"),
    ],
)
def test_variables(value: str, expanded: str) -> None:
    assert expansion().expand(value) == expanded


@pytest.mark.parametrize(
    ("value", "reason", "hint"),
    [
        ("%(nope)", "%(nope) refers to no key of this file", "write %% for a percent sign"),
        ("%(loop)", "%(loop) refers to itself", "loop → pool → loop"),
        ("%(self)", "%(self) refers to itself", "self → self"),
        ("%(%k * 2)", "arithmetic as in %(%k * 2) is not supported yet", "write the result"),
        ("%(a + b)", "arithmetic as in %(a + b) is not supported yet", "write the result"),
        ("@(/etc/secret)", "@(…) is not supported yet", "write the value itself"),
        ("a@(exec://x", "@(…) is not supported yet", "write the value itself"),
        *(
            (f"%{letter}", f"%{letter} is not supported yet", "write %% for a percent sign")
            for letter in "oOxiI09jVhkuUgGtTb["
        ),
    ],
)
def test_what_is_not_supported_is_never_passed_over(value: str, reason: str, hint: str) -> None:
    with pytest.raises(Mistake) as caught:
        expansion().expand(value)
    assert caught.value.reason == reason
    assert caught.value.hint == hint


def test_variables_that_are_not_set_are_remembered() -> None:
    one = expansion()
    one.expand("$(NOPE) $(HOME) $(GONE)")
    assert one.unset == ["NOPE", "GONE"]


def test_placeholders_that_double_each_other_end_soon() -> None:
    entries = [Entry(f"k{number}", f"%(k{number + 1})" * 2, number) for number in range(40)]
    with pytest.raises(Mistake, match="grows beyond 65536 characters"):
        Expansion([*entries, Entry("k40", "xx", 40)], PLACE, {}).expand("%(k0)")
    assert Expansion([*entries, Entry("k40", "", 40)], PLACE, {}).expand("%(k0)") == ""


def test_placeholders_may_not_stand_too_deep() -> None:
    entries = [Entry(f"k{number}", f"%(k{number + 1})", number) for number in range(2000)]
    with pytest.raises(Mistake, match="more than 50 deep"):
        Expansion([*entries, Entry("k2000", "", 2000)], PLACE, {}).expand("%(k0)")


def test_references() -> None:
    assert dialect.references(["%(a)/%(b)", None, "%(c + 2)", "%%(d)", "$(e)", "plain"]) == {
        "a",
        "b",
        "c",
        "+",
        "2",
    }


@given(st.text("%()$@abn ", max_size=30))
def test_any_text_expands_or_is_a_mistake(value: str) -> None:
    entries = [Entry("a", value, 1), Entry("b", "%(a)", 2)]
    try:
        Expansion(entries, PLACE, {"a": "1"}).expand(value)
    except Mistake as mistake:
        assert mistake.hint  # noqa: PT017
