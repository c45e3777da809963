import contextlib
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emperor.config import values
from emperor.config.problems import Mistake


def refusal(parse: Any, value: Any) -> Mistake:
    with pytest.raises(Mistake) as caught:
        parse(value)
    return caught.value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, True),
        ("true", True),
        ("True", True),
        ("yes", True),
        ("on", True),
        ("1", True),
        (True, True),
        ("false", False),
        ("OFF", False),
        ("no", False),
        ("0", False),
        (False, False),
    ],
)
def test_flags(value: Any, expected: bool) -> None:
    assert values.flag(value) is expected


@pytest.mark.parametrize("value", ["", "maybe", "2", "true ; really", 1, 0, 1.0, [], {}])
def test_what_is_no_flag(value: Any) -> None:
    assert "is neither true nor false" in refusal(values.flag, value).reason


@pytest.mark.parametrize(("value", "expected"), [("0", 0), ("4", 4), ("007", 7), (12, 12)])
def test_counts(value: Any, expected: int) -> None:
    assert values.count(value) == expected


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("true", "'true'"),
        (True, "true"),
        ("10s", "'10s'"),
        ("-1", "'-1'"),
        (-1, "-1"),
        ("4.0", "'4.0'"),
        (4.0, "4.0"),
        ("٤", "'٤'"),
        ("4 ; four", "'4 ; four'"),
        ("9" * 5000, "'" + "9" * 78 + "…"),
        ([4], "a list"),
        ({"a": 4}, "a table"),
    ],
)
def test_what_is_no_count(value: Any, shown: str) -> None:
    assert refusal(values.count, value).reason == f"{shown} is not a whole number"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("10", 10.0),
        ("10s", 10.0),
        ("500ms", 0.5),
        ("2m", 120.0),
        ("1.5h", 5400.0),
        ("1d", 86400.0),
        ("0", 0.0),
        (10, 10.0),
        (0.25, 0.25),
    ],
)
def test_durations(value: Any, expected: float) -> None:
    assert values.duration(value) == pytest.approx(expected)


@pytest.mark.parametrize(
    "value",
    [
        "true",
        True,
        "",
        "s",
        "10 s",
        "10S",
        "10sec",
        "-5s",
        "1e3",
        "nan",
        "inf",
        math.inf,
        math.nan,
        -1,
        ".5s",
        "5.s",
    ],
)
def test_what_is_no_duration(value: Any) -> None:
    mistake = refusal(values.duration, value)
    assert mistake.reason.endswith("is not a duration")
    assert mistake.hint == "write 10s, 500ms, 2m, 1h or a number of seconds"


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0", 0), ("65536", 65536), ("64k", 65536), ("64K", 65536), ("10m", 10 << 20), ("1g", 1 << 30), (5, 5)],
)
def test_sizes(value: Any, expected: int) -> None:
    assert values.size(value) == expected


@pytest.mark.parametrize("value", ["true", True, "", "k", "1.5m", "64kb", "64 k", "-1", -1, 1.5])
def test_what_is_no_size(value: Any) -> None:
    assert refusal(values.size, value).reason.endswith("is not a size")


@pytest.mark.parametrize("parse", [values.count, values.duration, values.size])
def test_a_bare_key_is_no_number(parse: Any) -> None:
    assert refusal(parse, None).reason.startswith("needs a value, a ")


@given(st.integers(0, 10**12 - 1), st.sampled_from(["", "ms", "s", "m", "h", "d"]))
def test_a_duration_is_its_number_times_its_unit(number: int, unit: str) -> None:
    seconds = {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
    assert values.duration(f"{number}{unit}") == pytest.approx(number * seconds)


@given(st.integers(0, 10**15 - 1), st.sampled_from(["", "k", "m", "g", "K", "M", "G"]))
def test_a_size_is_its_number_times_its_unit(number: int, unit: str) -> None:
    assert values.size(f"{number}{unit}") == number * 1024 ** ["", "k", "m", "g"].index(unit.lower())


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.lists(st.text()),
    st.dictionaries(st.text(), st.text()),
)


@pytest.mark.parametrize(
    ("parse", "kind"),
    [
        (values.flag, bool),
        (values.count, int),
        (values.duration, float),
        (values.size, int),
        (values.text, str),
        (values.module, str),
        (values.attribute, str),
        (values.domain, str),
        (values.variable, tuple),
    ],
)
def test_anything_is_a_typed_value_or_a_mistake(parse: Any, kind: type) -> None:
    @given(ANYTHING)
    def check(value: Any) -> None:
        # Whatever else than a Mistake comes out of it fails the test.
        with contextlib.suppress(Mistake):
            parsed = parse(value)
            assert type(parsed) is kind
            if isinstance(parsed, (int, float)):
                assert 0 <= parsed < math.inf

    check()


@pytest.mark.parametrize(
    "value",
    ["app", "blog.wsgi", "blog.wsgi:app", "blog:site.app", "blog:make()", "blog:site.make()", "größe:app"],
)
def test_modules(value: str) -> None:
    assert values.module(value) == value


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("blog/wsgi.py", "a path belongs in wsgi-file"),
        ("/srv/app.py", "a path belongs in wsgi-file"),
        ("blog-site", "write pkg.mod, pkg.mod:app or pkg.mod:make()"),
        ("blog:", "write pkg.mod, pkg.mod:app or pkg.mod:make()"),
        ("blog:app:x", "write pkg.mod, pkg.mod:app or pkg.mod:make()"),
        ("blog:make(1)", "write pkg.mod, pkg.mod:app or pkg.mod:make()"),
        ("blog()", "write pkg.mod, pkg.mod:app or pkg.mod:make()"),
        (".blog", "write pkg.mod, pkg.mod:app or pkg.mod:make()"),
    ],
)
def test_what_names_no_module(value: str, hint: str) -> None:
    mistake = refusal(values.module, value)
    assert mistake.reason == f"{value!r} does not name a module"
    assert mistake.hint == hint


@pytest.mark.parametrize("value", ["app", "site.app", "make()"])
def test_attributes(value: str) -> None:
    assert values.attribute(value) == value


@pytest.mark.parametrize("value", ["my-app", "make(", "a:b", "app ; the app", "1"])
def test_what_is_no_attribute(value: str) -> None:
    assert refusal(values.attribute, value).reason == f"{value!r} is not a Python name"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("A=1", ("A", "1")),
        ("A = 1", ("A", "1")),
        ("A=", ("A", "")),
        ("A=b=c", ("A", "b=c")),
        (("A", "b"), ("A", "b")),
        (("PORT", 8080), ("PORT", "8080")),
    ],
)
def test_variables(value: Any, expected: tuple[str, str]) -> None:
    assert values.variable(value) == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("A", "'A' has no ="),
        ("=1", "'' cannot be the name of a variable"),
        ("A B=1", "'A B' cannot be the name of a variable"),
        (("A=B", "1"), "'A=B' cannot be the name of a variable"),
        (("A", True), "A is true, not text"),
        (("A", 1.5), "A is 1.5, not text"),
        (("A", ["b"]), "A is a list, not text"),
        (("A", "b\0"), "the value of A holds a NUL byte"),
        (None, "needs a value"),
    ],
)
def test_what_is_no_variable(value: Any, reason: str) -> None:
    assert refusal(values.variable, value).reason == reason


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Blog.Example.COM", "blog.example.com"),
        ("blog.example.com.", "blog.example.com"),
        ("*.Example.com", "*.example.com"),
        ("example.com/Blog", "example.com/Blog"),
        ("example.com/blog/", "example.com/blog"),
        ("example.com/", "example.com"),
        ("*.example.com/a/b", "*.example.com/a/b"),
        ("localhost", "localhost"),
        ("10.0.0.1", "10.0.0.1"),
        ("my_app.local", "my_app.local"),
        ("xn--grn-ioa.example", "xn--grn-ioa.example"),
    ],
)
def test_domains(value: str, expected: str) -> None:
    assert values.domain(value) == expected


@pytest.mark.parametrize(
    ("value", "reason", "hint"),
    [
        ("http://a.com", "is a URL", "leave out the scheme"),
        ("a.com:8080", "names a port", "routes go by host and path alone"),
        ("a.com b.com", "is more than one domain", "give each its own line"),
        ("a.com,b.com", "is more than one domain", "give each its own line"),
        ("*", "is no domain", "write default = true"),
        ("grün.example", "is not ASCII", "write xn--grn-ioa.example"),
        ("a..b", "is not a domain", "write blog.example.com"),
        ("-a.com", "is not a domain", "write blog.example.com"),
        ("a.*.com", "is not a domain", "write blog.example.com"),
        ("*.*.com", "is not a domain", "write blog.example.com"),
        ("*a.com", "is not a domain", "write blog.example.com"),
        ("/path", "is not a domain", "write blog.example.com"),
        ("a" * 64 + ".com", "is not a domain", "write blog.example.com"),
        (".".join(["a" * 60] * 5), "is not a domain", "write blog.example.com"),
        ("a.com/b?c", "has a path that no request can have", "write blog.example.com"),
        ("a.com//b", "has a path that no request can have", "write blog.example.com"),
        ("a.com/../b", "has a path that no request can have", "write blog.example.com"),
    ],
)
def test_what_is_no_domain(value: str, reason: str, hint: str) -> None:
    mistake = refusal(values.domain, value)
    assert reason in mistake.reason
    assert mistake.hint is not None
    assert mistake.hint.startswith(hint)


@given(st.text())
def test_a_domain_is_read_the_same_a_second_time(value: str) -> None:
    try:
        domain = values.domain(value)
    except Mistake:
        return
    assert values.domain(domain) == domain


@pytest.mark.parametrize("stem", ["blog.example.com", "Blog.Example.com", "a.b"])
def test_names_that_read_as_domains(stem: str) -> None:
    assert values.reads_as_domain(stem)


@pytest.mark.parametrize("stem", ["blog", "app-1.2", "a..b", "a.", "10.0.0.1"])
def test_names_that_do_not_read_as_domains(stem: str) -> None:
    assert not values.reads_as_domain(stem)


@pytest.mark.parametrize(
    ("value", "comment"),
    [
        ("4 ; four", "; four"),
        ("4 # four", "# four"),
        ("4 ;four", ";four"),
        ("4\t# four", "# four"),
        ("4;four", None),
        ("#4", None),
        (4, None),
        (None, None),
    ],
)
def test_inline_comments_are_seen(value: Any, comment: str | None) -> None:
    assert values.inline_comment(value) == comment


def test_text_has_one_line() -> None:
    for value in ("a\nb", "a\rb", "a\0b"):
        assert refusal(values.text, value).reason == "holds a line break or a NUL byte"
    assert refusal(values.text, "").reason == "needs a value"
    assert refusal(values.text, 3).hint == "put it in quotes"
