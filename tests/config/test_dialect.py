"""Blocks, includes, placeholders: what the lines of files come to. test_beside_uwsgi.py asks a real uWSGI."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from emperor.config import uwsgi
from emperor.config.dialect import CONDITIONS, KEYWORDS, LOOPS, Dialect
from emperor.config.layers import NONE, Layers
from emperor.config.loading import this_system
from emperor.config.uwsgi import Answer

Read = Callable[..., Dialect]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(
        text: str, environ: Mapping[str, str] | None = None, layers: Layers = NONE, name: str = "app.ini"
    ) -> Dialect:
        path = tmp_path / name
        path.write_text("[uwsgi]\n" + text if name.endswith(".ini") else text)
        dialect = Dialect(str(path), this_system(str(tmp_path)), environ or {})
        dialect.read(layers)
        return dialect

    return read


def pairs(dialect: Dialect) -> list[tuple[str, object]]:
    assert dialect.problems == []
    return [(entry.key, dialect.expanded(entry)) for entry in dialect.entries]


def said(dialect: Dialect, tmp_path: Path, what: str = "problems") -> list[str]:
    return [str(problem).replace(f"{tmp_path}/", "") for problem in getattr(dialect, what)]


def test_every_keyword_is_one_of_uwsgis_and_answered_as_such() -> None:
    ours = {"end", "else"}  # uWSGI takes `end` without listing it; `else` is of its unreleased version
    for name in KEYWORDS - ours:
        known = uwsgi.look_up(name)
        assert known is not None, name
        assert known.answer is Answer.DIALECT, name
    listed = {
        name for name in uwsgi.kinds() if (known := uwsgi.look_up(name)) and known.answer is Answer.DIALECT
    }
    assert listed == KEYWORDS - ours


def test_every_logic_option_of_uwsgis_is_a_block_of_ours() -> None:
    assert {name for name, kind in uwsgi.kinds().items() if kind == "logic"} == {*CONDITIONS, *LOOPS}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("for = a b\nx = %(_)\ny = <%(_)>\nendfor\nz = 1", "x=a x=b y=<a> y=<b> z=1"),
        ("for =\nx = 1\nendfor", ""),
        ("for-times = 3\nx = %(_)\nend-for", "x=1 x=2 x=3"),
        ("for-times = 0\nx = %(_)\nend", ""),
        ("for-readline = lines\nx = <%(_)>\nendfor", "x=<one> x=<> x=<two>"),
        ("for-glob = d/*.txt\nx = %(_)\nendfor", "x=d/a.txt x=d/b.txt"),
        ("for-glob = d*\nx = %(_)\nendfor", "x=d/"),
        ("if-env = E\nx = %(_)\nendif", "x=prod"),
        ("if-env = E=prod\nx = %(_)\nendif", "x=prod"),
        ("if-env = E=test\nx = %(_)\nendif", ""),
        ("ifenv = NOPE\nx = 1\nendif", ""),
        ("if-not-env = NOPE\nx = 1\nend-if", "x=1"),
        ("if-not-env = E=test\nx = 1\nendif", "x=1"),
        ("if-not-env = E\nx = 1\nendif", ""),
        ("a = 5\nif-opt = a\nx = %(_)\nendif", "a=5 x=5"),
        ("a = 5\nif-opt = a=5\nx = 1\nendif", "a=5 x=1"),
        ("a = 5\nif-opt = a=6\nx = 1\nendif", "a=5"),
        ("if-opt = a\nx = 1\nendif\na = 5", "a=5"),
        ("if-not-opt = a\nx = 1\nendif", "x=1"),
        ("if-exists = lines\nx = %(_)\nendif", "x=lines"),
        ("ifexists = d\nx = 1\nendif", "x=1"),
        ("if-not-exists = nope\nx = %(_)\nendif", "x=nope"),
        ("if-file = lines\nx = 1\nendif", "x=1"),
        ("if-file = d\nx = 1\nendif", ""),
        ("if-not-file = d\nx = 1\nendif", "x=1"),
        ("if-dir = d\nx = 1\nendif", "x=1"),
        ("if-directory = d\nx = 1\nendif", "x=1"),
        ("ifdir = lines\nx = 1\nendif", ""),
        ("if-not-dir = lines\nx = 1\nendif", "x=1"),
        ("if-plugin = python3\nx = 1\nendif", "x=1"),
        ("ifplugin = python\nx = 1\nendif", "x=1"),
        ("if-plugin = php\nx = 1\nendif", ""),
        ("if-not-plugin = php\nx = 1\nendif", "x=1"),
        ("if-hostname = %h\nx = 1\nendif", "x=1"),
        ("if-hostname = nope\nx = 1\nendif", ""),
        ("if-not-hostname = nope\nx = 1\nendif", "x=1"),
        ("if-hostname-match = .\nx = 1\nendif", "x=1"),
        ("if-not-hostname-match = ^$\nx = 1\nendif", "x=1"),
        ("if-reload =\nx = 1\nendif", ""),
        ("if-not-reload =\nx = 1\nendif", "x=1"),
        ("if-env = NOPE\nx = 1\nelse =\nx = 2\nendif", "x=2"),
        ("if-env = E\nx = 1\nelse\nx = 2\nendif", "x=1"),
        ("set = x=1\ny = %(x)", "x=1 y=1"),
        ("set-ph = x=1\nset-placeholder = y=2\nz = %(x)%(y)", "x=1 y=2 z=12"),
        ("declare-option = two=env=A=$1;env=B=$2\ntwo = one two", "env=A=one env=B=two"),
        ("include = more.ini\nx = %(m)", "m=more.ini/app.ini x=more.ini/app.ini"),
        ("ini = more.ini:other\nx = 1", "o=other x=1"),
        ("include = more.ini:other", "o=other"),
        ("ini = more.ini\nini = :other", "m=more.ini/app.ini o=other"),
        ("inherit = more.ini\nx = %(m)", "x=more.ini/app.ini m=more.ini/app.ini"),
        ("if-env = E\ninclude = more.ini\nendif", "m=more.ini/app.ini"),
        ("for = more\ninclude = %(_).ini\nendfor", "m=more.ini/app.ini"),
        ("include = $(M)", "m=more.ini/app.ini"),
        ("x = @(lines)", "x=one\n\ntwo"),
        ("yaml = m.yml\njson = m.json", "y=m.yml j=app"),
        ("%n = x\na = %(app)", "app=x a=x"),
    ],
)
def test_lines(read: Read, tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "lines").write_text("one\n\ntwo\n")
    (tmp_path / "d").mkdir()
    for name in ("a.txt", "b.txt", "c.ini", ".h.txt"):
        (tmp_path / "d" / name).write_text("")
    (tmp_path / "more.ini").write_text("[uwsgi]\nm = %s/%S\n[other]\no = %x\n")
    (tmp_path / "m.yml").write_text("uwsgi:\n  y: '%s'\n")
    (tmp_path / "m.json").write_text('{"uwsgi": {"j": "%N"}}')
    found = pairs(read(text, {"E": "prod", "M": "more.ini"}))
    assert " ".join(f"{key}={value}" for key, value in found) == expected


WORDS = {
    "endings": ".ini, .toml, .yaml, .yml, .json, .js",
    "name": "(name an option)",
    "nope": "(set nope, or write %%(nope) for the text itself)",
    "simple": "(at most three of * + {…}, none of them after a group)",
    "multiple": "expression: multiple repeat at position 2",
}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("if-env = X\ny=1", "2: if-env: is never ended (write endif)"),
        ("for = a b\ny=1", "2: for: is never ended (write endfor)"),
        ("endif", "2: endif: ends nothing (there is no open if or for above it)"),
        ("else", "2: else: stands outside of an if (there is no open if above it)"),
        ("for = a\nif-env = X\nendif", "3: if-env: stands inside for of line 2 (blocks do not nest, in uWSGI neither)"),
        ("include = nope.ini", "2: include: {}/nope.ini is not there, or no longer"),
        ("include = app.ini", "2: include: {}/app.ini is being read already (files must not include each other in a circle)"),
        ("include = x.conf", "2: include: {}/x.conf is of no known format (its name ends in {endings})"),
        ("include = http://x/y.ini", "2: include: http://… is refused (name a file)"),
        ("include", "2: include: needs a value"),
        ("ini = :nope", "app.ini: has no section [nope]"),
        ("set = x", None),
        ("set = =x", "2: set: '=x' names nothing to set (write name=value)"),
        ("set-ph = processes=3", "2: set-ph: processes is an option, no placeholder (write processes = 3)"),
        ("declare-option = x", "2: declare-option: declares nothing (write name=option=$1;option=$2)"),
        ("declare-option = module=x=1", "2: declare-option: module is an option already (take another name)"),
        ("declare-option = a=b=1\ndeclare-option = b=a=1\na = 1", "4: a: stands for b, which is declared, too {name}"),
        ("blacklist = uid gid\nuid = root", "3: uid: is forbidden by the blacklist of line 2"),
        ("blacklist = uid\nend-blacklist\nuid = root", None),
        ("whitelist = env\nenv = A=1\nuid = root", "4: uid: is not in the whitelist of line 2"),
        ("whitelist = env\nend-whitelist\nuid = root", None),
        ("blacklist = uid\nset = uid=root", "3: set: is forbidden by the blacklist of line 2"),
        ("exit", "2: exit: tells to stop here (remove the line, or make the block around it not apply)"),
        ("if-env = NOPE\nexit\nendif", None),
        ("for-times = many\nendfor", "2: for-times: 'many' is no number of times (write a number up to 10000)"),
        ("for-times = 99999\nendfor", "2: for-times: '99999' is no number of times (write a number up to 10000)"),
        ("if-hostname-match = (a+)+$\nendif", "2: if-hostname-match: '(a+)+$' is too elaborate a pattern {simple}"),
        ("if-hostname-match = a**\nendif", "2: if-hostname-match: 'a**' is no regular {multiple}"),
        ("for-readline = nope\nendfor", "2: for-readline: @(nope): {}/nope is not there, or no longer"),
        ("if-exists = %(nope)\nendif", "2: if-exists: %(nope) refers to no key of this file {nope}"),
    ],
)  # fmt: skip
def test_mistakes(read: Read, tmp_path: Path, text: str, problem: str | None) -> None:
    found = said(read(text), tmp_path)
    if problem is None:
        assert found == []
    else:
        line = problem.replace("{}/", "").format(**WORDS)
        assert (line if line.startswith("app") else f"app.ini:{line}") in found


def test_an_end_of_another_kind_ends_with_a_warning(read: Read, tmp_path: Path) -> None:
    dialect = read("if-env = X\nendfor\nx = 1")
    assert pairs(dialect) == [("x", "1")]
    assert said(dialect, tmp_path, "warnings") == ["app.ini:3: endfor: ends if-env of line 2 (as in uWSGI)"]


def test_a_letter_that_there_is_not_is_a_warning(read: Read, tmp_path: Path) -> None:
    dialect = read("x = 100% sure\nlog-format = %(uri) %y")
    assert said(dialect, tmp_path, "warnings") == [
        "app.ini:2: x: %  is no variable and stays as it is (uWSGI would drop it; write %% for a percent sign)"
    ]


def test_a_percent_sign_in_a_share_is_no_variable(read: Read, tmp_path: Path) -> None:
    dialect = read("canary = 5% 10m\nmirror = next 10%\ncanary = 5%q 10m")
    assert pairs(dialect)[:2] == [("canary", "5% 10m"), ("mirror", "next 10%")]
    assert [each.partition(" is no")[0] for each in said(dialect, tmp_path, "warnings")] == [
        "app.ini:4: canary: %q"
    ]


def test_a_section_of_another_file_is_told(read: Read, tmp_path: Path) -> None:
    (tmp_path / "b.ini").write_text("[uwsgi]\nb = 1\n[more]\nc = 1\n")
    dialect = read("include = b.ini\nini = :more\n[more]\nd = 1")
    assert pairs(dialect) == [("b", "1"), ("c", "1")]
    assert said(dialect, tmp_path, "warnings") == [
        "app.ini:3: ini: reads b.ini [more] (a section alone is one of the INI file that was opened last)",
        "app.ini:4: section [more] is not read (only [uwsgi] or [vassal] is)",
    ]


def test_a_section_that_is_asked_for_is_not_called_unread(read: Read, tmp_path: Path) -> None:
    dialect = read("ini = :base\n[base]\nb = 1\n[rest]\nc = 1")
    assert pairs(dialect) == [("b", "1")]
    assert said(dialect, tmp_path, "warnings") == [
        "app.ini:5: section [rest] is not read (only [uwsgi] or [vassal] is)"
    ]


def test_files_that_include_each_other_deeply_or_widely_are_bounded(read: Read, tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"d{number}.ini").write_text(f"[uwsgi]\ninclude = d{number + 1}.ini\n")
    assert "more than 10 deep" in said(read("include = d0.ini"), tmp_path)[0]
    (tmp_path / "one.ini").write_text("[uwsgi]\nx = 1\n")
    found = said(read("include = one.ini\n" * 70), tmp_path)
    assert "one file too many: at most 64 are read" in found[0]


def test_problems_of_an_included_file_are_named_there(read: Read, tmp_path: Path) -> None:
    (tmp_path / "b.ini").write_text("\n[uwsgi\n[uwsgi]\nendif\n")
    assert said(read("include = b.ini"), tmp_path) == [
        "b.ini:2: '[uwsgi' is no section header (write [uwsgi] or [vassal])",
        "b.ini:4: endif: ends nothing (there is no open if or for above it)",
    ]


def test_the_layers_stand_around_the_file(read: Read, tmp_path: Path) -> None:
    for name in ("ib", "hb", "i", "h"):
        (tmp_path / f"{name}.ini").write_text(f"[uwsgi]\n{name} = %n %N\n")
    layers = Layers(
        include_before=(str(tmp_path / "ib.ini"),),
        inherit_before=(str(tmp_path / "hb.ini"),),
        settings=(("processes", "4"), ("who", "me")),
        include=(str(tmp_path / "i.ini"),),
        inherit=(str(tmp_path / "h.ini"),),
    )
    (tmp_path / "own.ini").write_text("[uwsgi]\nown = 1\n")
    environ = {"UWSGI_VASSAL_BUFFER_SIZE": "8192", "UWSGI_VASSAL_": "x"}
    dialect = read("x = %(who)\ninherit = own.ini", environ, layers)
    assert pairs(dialect) == [
        ("buffer-size", "8192"),
        ("ib", "ib app"),
        ("processes", "4"),
        ("who", "me"),
        ("x", "me"),
        ("i", "i app"),
        ("hb", "hb app"),
        ("own", "1"),
        ("h", "h app"),
    ]
    names = [Path(each.path).name for each in dialect.files.sources]
    assert names == ["ib.ini", "app.ini", "i.ini", "hb.ini", "own.ini", "h.ini"]


def test_uwsgis_environment_stands_before_the_file(read: Read, tmp_path: Path) -> None:
    (tmp_path / "more.ini").write_text("[uwsgi]\nmore = %n\n")
    environ = {
        "UWSGI_VASSAL_QUEUE": "7",
        "UWSGI_QUEUE": "6",
        "UWSGI_PROCESSES": "9 %n",
        "UWSGI_INI": "more.ini",
        "UWSGI_RELOADS": "1",
        "UWSGI_EMPEROR": "/etc/vassals",
        "UWSGI_": "x",
    }
    assert pairs(read("x = 1", environ)) == [
        ("queue", "7"),
        ("processes", "9 %n"),
        ("more", "more"),
        ("x", "1"),
    ]
    assert said(read("x = 1", {"UWSGI_INI": "gone.ini", "UWSGI_IF_ENV": "X"}), tmp_path) == [
        "the emperor's environment: ini: gone.ini is not there, or no longer",
        "the emperor's environment: if-env: belongs into a file (name the file in vassals-include)",
    ]


def test_what_a_layer_may_not_be(read: Read, tmp_path: Path) -> None:
    layers = Layers(include_before=("/nope.ini",), settings=(("include", "x.ini"), ("if-env", "X")))
    assert said(read("x = 1", {}, layers), tmp_path) == [
        "vassals-include-before: vassals-include-before: /nope.ini is not there, or no longer",
        "vassal-set: include: belongs into a file (name the file in vassals-include)",
        "vassal-set: if-env: belongs into a file (name the file in vassals-include)",
    ]


def test_everything_that_was_looked_for_is_a_source(read: Read, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    dialect = read("if-exists = nope\nendif\nfor-glob = d/*\nendfor\nx = @(secret)\ninclude = gone.ini")
    with pytest.raises(ValueError, match="secret"):
        [dialect.expanded(entry) for entry in dialect.entries]
    names = [Path(each.path).name for each in dialect.files.sources]
    assert names == ["app.ini", "nope", "d", "gone.ini", "secret"]


def test_toml_is_literal_but_includes(read: Read, tmp_path: Path) -> None:
    (tmp_path / "more.ini").write_text("[uwsgi]\nm = %n %(x)\n")
    dialect = read('x = "%n $(E) 100%"\ninclude = "more.ini"\n', {"E": "1"}, name="app.toml")
    assert pairs(dialect) == [("x", "%n $(E) 100%"), ("m", "more %n $(E) 100%")]
    assert dialect.warnings == []


def test_a_printed_line_is_a_note(read: Read, tmp_path: Path) -> None:
    dialect = read("x = 1\nprint = x is %(x)\niprint = on %n")
    assert pairs(dialect) == [("x", "1")]
    assert said(dialect, tmp_path, "notes") == [
        "app.ini:3: print: says 'x is 1'",
        "app.ini:4: iprint: says 'on app'",
    ]


def test_every_row_of_the_page_names_a_test_that_there_is() -> None:
    here = Path(__file__).parent
    code = "\n".join(path.read_text("utf-8") for path in here.glob("test_*.py"))
    page = (here.parents[1] / "docs" / "reference" / "dialect.md").read_text("utf-8")
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(named) > 10
    assert {name for name in named if f"def {name}(" not in code} == set()
    for file in set(re.findall(r"`(test_\w+\.py)`", page)):
        assert (here / file).exists()
    for keyword in KEYWORDS - {"js", "ifenv", "ifexists", "ifdir", "ifplugin"}:
        stem = keyword.replace("if-not-", "if-").removeprefix("end-")
        assert stem in page, keyword
