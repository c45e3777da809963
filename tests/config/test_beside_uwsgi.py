"""The same lines, read by a real uWSGI (``--show-config``) and by us, come to the same keys and values.

SAME must not differ. DIFFERENT is where we mean to differ: each row holds what uWSGI makes of it, so that a row
that is no difference any more fails, too; docs/reference/dialect.md gives the reasons.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from emperor.config.dialect import KEYWORDS, Dialect
from emperor.config.layers import NONE
from emperor.config.loading import this_system
from emperor.config.problems import ConfigError, Mistake

UWSGI = Path(sys.executable).with_name("uwsgi")
ENVIRON = {
    "PATH": os.environ["PATH"],
    "HOME": "/home/me",
    "STAGE": "prod",
    "CHAIN": "%(num)",
    "FILE": "lines",
}

# Every snippet is a file of its own, below [uwsgi], beside the files of `around`.
SAME = {
    "pair": "a = b",
    "first equals sign": "a = b = c",
    "no blanks": "a=b",
    "blanks around": "   spaced key   =   v w   ",
    "bare key": "bare",
    "empty value": "empty =",
    "quotes stay": 'a = "q"',
    "comment lines": "; one\n  # two\na = 1",
    "no inline comment": "a = 1 ; one\nb = 2 # two",
    "repeated": "a = 1\na = 2\nb = %(a)",
    "other sections": "a = 1\n[other]\nb = 2",
    "section again": "a = 1\n[other]\nb = 2\n[uwsgi]\nc = 3",
    "own letters": "a = %n %s %e %c",
    "paths": "a = %p|%d",
    "upper case": "a = %N %S %E %C %P|%D",
    "as given": "a = %o|%O|%x|%X",
    "components": "a = %0|%1|%9",
    "inode and hash": "a = %i|%I|%j|%J",
    "system": "a = %h %k %u %U %g %G",
    "escape": "a = %[[1m",
    "percent": "a = 100%%, %%n",
    "letters in keys": "%n = 1",
    "environment": "a = $(HOME)/x $(STAGE)",
    "placeholder": "base = /srv\na = %(base)/app",
    "placeholder before its key": "a = %(base)/app\nbase = /srv",
    "placeholder of a bare key": "bare\na = <%(bare)>",
    "doubled percent is a placeholder": "base = x\na = %%(base)",
    "text of the app's": "env = F=%(asctime)s\nenv = G=%%(asctime)s",
    "a percent sign before a name that is none": "a = %%(nope)",
    "chain downwards": "a = %(b)\nb = x",
    "chain upwards": "b = x\nc = %(b)y\na = %(c)z",
    "environment in a placeholder": "b = $(HOME)\na = %(b)",
    "placeholder in the environment": "num = 4\na = $(CHAIN)",
    "sum": "a = %(1 + 2)",
    "no precedence": "num = 4\na = %(num + 1 * 2)",
    "difference": "num = 4\na = %(num - 10)",
    "division": "a = %(7 / 2)",
    "division of a negative": "neg = -7\na = %(neg / 2)",
    "increment": "num = 4\na = %(num ++) %(num --)",
    "join": "num = 4\na = %(num 5)",
    "join and add": "num = 4\na = %(num 5 + 1)",
    "cores": "a = %(%k * 2 + 1)",
    "no blanks is no arithmetic": "a = x$y",
    "file": "a = @(one)",
    "file with lines": "a = @(lines)",
    "file by the environment": "a = @($(FILE))",
    "file within": "a = [@(one)]",
    "for": "for = a b c\nx = %(_)\ny = <%(_)>\nendfor\nz = 1",
    "for nothing": "for =\nx = %(_)\nendfor\nz = 1",
    "for with a placeholder": "base = b\nfor = 1 2\nx = %(base)%(_)\nendfor",
    "for-times": "for-times = 3\nx = %(_)\nend-for",
    "for-glob": "for-glob = d/*.txt\nx = %(_)\nendfor",
    "for-glob of directories": "for-glob = d*\nx = %(_)\nendfor",
    "for-readline": "for-readline = lines\nx = <%(_)>\nendfor",
    "for and include": "for = more again\ninclude = %(_).ini\nendfor",
    "if-env": "if-env = STAGE\nx = %(_)\nendif\ny = 1",
    "if-env with a value": "if-env = STAGE=prod\nx = %(_)\nendif",
    "if-env with another value": "if-env = STAGE=test\nx = 1\nendif",
    "if-env unset": "if-env = NO_SUCH\nx = 1\nendif\ny = 1",
    "ifenv": "ifenv = STAGE\nx = 1\nendif",
    "if-not-env": "if-not-env = NO_SUCH\nx = 1\nendif",
    "if-not-env with a value": "if-not-env = STAGE=test\nx = 1\nendif",
    "if-not-env set": "if-not-env = STAGE\nx = 1\nendif",
    "if-opt": "a = 5\nif-opt = a\nx = %(_)\nendif",
    "if-opt with a value": "a = 5\nif-opt = a=5\nx = 1\nendif",
    "if-opt with another": "a = 5\nif-opt = a=6\nx = 1\nendif",
    "if-opt looks up only": "if-opt = a\nx = 1\nendif\na = 5",
    "if-not-opt": "if-not-opt = a\nx = 1\nend-if",
    "if-exists": "if-exists = one\nx = %(_)\nendif",
    "ifexists": "ifexists = nope\nx = 1\nendif",
    "if-not-exists": "if-not-exists = nope\nx = %(_)\nendif",
    "if-file": "if-file = one\nx = 1\nendif",
    "if-file of a directory": "if-file = d\nx = 1\nendif",
    "if-not-file": "if-not-file = d\nx = 1\nendif",
    "if-dir": "if-dir = d\nx = 1\nendif",
    "if-directory": "if-directory = one\nx = 1\nendif",
    "ifdir": "ifdir = d\nx = 1\nendif",
    "if-not-dir": "if-not-dir = one\nx = 1\nendif",
    "if-plugin": "if-plugin = python\nx = 1\nendif",
    "if-not-plugin": "if-not-plugin = php\nx = 1\nendif",
    "if-hostname": "if-hostname = %h\nx = 1\nendif",
    "if-not-hostname": "if-not-hostname = %h\nx = 1\nendif",
    "if-reload": "if-reload =\nx = 1\nendif",
    "if-not-reload": "if-not-reload =\nx = 1\nendif",
    "end": "if-env = STAGE\nx = 1\nend\ny = 1",
    "include": "include = more.ini\na = %(m)",
    "include in a directory": "include = d/deep.ini",
    "include by an absolute path": "include = %dmore.ini",
    "ini with a section": "ini = more.ini:other",
    "own section": "ini = :base\na = 1\n[base]\nb = %n %x",
    "section of the file opened last": "include = more.ini\nini = :other",
    "inherit comes last": "inherit = plain.ini\na = 1",
    "inherit before": "a = 1\ninherit = plain.ini\nb = 2",
    "set": "set = x=1\na = %(x)",
    "set-ph": "set-ph = x=1\nset-placeholder = y=2\na = %(x)%(y)",
    "blacklist ended": "blacklist = uid gid\nx = 1\nend-blacklist\ny = 1",
}

# What uWSGI makes of it (None: it ends with an error), and what we do (a list of pairs, or what we say).
DIFFERENT: dict[str, tuple[str, str | None, str]] = {
    "unset environment": ("a = <$(NO_SUCH)>", "a=<$(NO_SUCH)>", "a=<>"),
    "unknown placeholder": ("a = %(nope)", "a=%(nope)", "refers to no key"),
    "variable of a log line": ("user = www\nlog-format = %(user)", "user=www log-format=www", "user=www log-format=%(user)"),
    "unknown letter": ("a = 100% sure %z", "a=100sure", "a=100% sure %z"),
    "circle": ("a = %(b)\nb = %(a)", "a=%(a) b=%(a)", "refers to itself"),
    "placeholder within": ("num = 1\nnm = num\na = %(%(nm))", "num=1 nm=num a=%(num)", "stands inside a placeholder"),
    "two steps down": ("a = %(b)\nb = %(c)\nc = x", "a=%(c) b=x c=x", "a=x b=x c=x"),
    "division by zero": ("a = %(1 / 0)", "a=0", "divides by zero"),
    "arithmetic with text": ("t = 3x\na = %(t + 1)", "t=3x a=4", "is no whole number"),
    "arithmetic with nothing": ("a = %(nope + 1)", "a=1", "refers to no key"),
    "file by a placeholder": ("f = one\na = @(%(f))", None, "f=one a=1"),
    "missing file": ("a = @(nope)", None, "is not there"),
    "expanded late": ("inherit = late.ini\nbase = x", "base=x l=%(base)", "base=x l=x"),
    "include by a placeholder": ("f = more\ninclude = %(f).ini", None, "f=more m=more/app"),
    "include with a section": ("include = more.ini:other", None, "o=1"),
    "condition with a placeholder": ("f = one\nif-exists = %(f)\nx = 1\nendif", "f=one", "f=one x=1"),
    "glob of nothing": ("for-glob = nope*\nx = %(_)\nendfor", "x=nope*", ""),
    "else": ("if-env = NO_SUCH\nx = 1\nelse\nx = 2\nendif", "", "x=2"),
    "else after what applies": ("if-env = STAGE\nx = 1\nelse\nx = 2\nendif", "x=1 x=2", "x=1"),
    "a block in a block": ("for = a\nif-env = STAGE\nx = 1\nendif\nendfor", None, "stands inside for"),
    "never ended": ("if-env = NO_SUCH\nx = 1", "", "is never ended"),
    "ends nothing": ("endif\nx = 1", "x=1", "ends nothing"),
    "missing include": ("include = nope.ini", None, "is not there"),
    "missing section": ("ini = more.ini:nope\nx = 1", "x=1", "has no section [nope]"),
    "placeholder named as an option": ("set-ph = processes=3", None, "is an option, no placeholder"),
    "blacklisted": ("blacklist = uid\nuid = root", None, "is forbidden by the blacklist"),
    "circle of files": ("include = %s", None, "is being read already"),
}  # fmt: skip

SKIPPED = {*KEYWORDS, "show-config", "no-server"}


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that snippets name."""
    directory = tmp_path_factory.mktemp("vassals")
    for name, text in {
        "one": "1\n",
        "lines": "one\n\ntwo\n",
        "more.ini": "[uwsgi]\nm = %n/%N\n[other]\no = 1\n",
        "again.ini": "[uwsgi]\nagain = %s\n",
        "plain.ini": "[uwsgi]\nplain = %n/%N\n",
        "late.ini": "[uwsgi]\nl = %(base)\n",
        "d/deep.ini": "[uwsgi]\ndeep = %n %N %d|%D %c %C %o %0|%1 %e\n",
        "d/a.txt": "",
        "d/b.txt": "",
        "d/.hidden.txt": "",
    }.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(text)
    return directory


@pytest.fixture(scope="module")
def theirs(around: Path) -> Iterator[dict[str, str | None]]:
    """What uWSGI makes of every snippet, by its name: ``key=value`` pairs in a line; None where it gave up."""
    snippets = {**SAME, **{name: row[0] for name, row in DIFFERENT.items()}}

    def ask(name: str) -> str | None:
        return _uwsgi(_file(around, name, snippets[name]))

    with ThreadPoolExecutor(4) as pool:
        yield dict(zip(snippets, pool.map(ask, snippets), strict=True))


def _file(around: Path, snippet: str, text: str) -> Path:
    """The snippet as ``app.ini`` in a directory of its own, with files to name."""
    home = around / snippet.replace(" ", "_")
    home.mkdir(exist_ok=True)
    for name in ("one", "lines", "more.ini", "again.ini", "plain.ini", "late.ini"):
        shutil.copyfile(around / name, home / name)
    shutil.copytree(around / "d", home / "d", dirs_exist_ok=True)
    path = home / "app.ini"
    path.write_text(f"[uwsgi]\n{text}\n")
    return path


def _uwsgi(path: Path) -> str | None:
    done = subprocess.run(
        [UWSGI, "--show-config", "--no-server", "--ini", path.name],
        cwd=path.parent,
        env=ENVIRON,
        capture_output=True,
        timeout=60,
    )
    text = done.stdout.decode() + done.stderr.decode()
    if ";uWSGI instance configuration" not in text:
        return None
    shown = text.partition(";uWSGI instance configuration\n[uwsgi]\n")[2].partition(";end of configuration")[
        0
    ]
    pairs = []
    for line in shown.splitlines():
        key, _, value = line.partition(" = ")
        if key not in SKIPPED:
            pairs.append(f"{key}={value}" if " = " in line else line)
    return " ".join(pairs)


def _ours(path: Path) -> str:
    dialect = Dialect(str(path), this_system(str(path.parent)), ENVIRON)
    try:
        dialect.read(NONE)
        pairs = [(entry.key, dialect.expanded(entry)) for entry in dialect.entries]
    except (ConfigError, Mistake) as error:
        return str(error)
    if dialect.problems:
        return "; ".join(map(str, dialect.problems))
    # uWSGI prints the lines of a value, and only the first of them has a key.
    return " ".join(f"{key}={value or ''}" for key, value in pairs).replace("\n", " ")


@pytest.mark.parametrize("name", SAME)
def test_the_same_lines_come_to_the_same(name: str, around: Path, theirs: dict[str, str | None]) -> None:
    assert _ours(_file(around, name, SAME[name])) == theirs[name]


@pytest.mark.parametrize("name", DIFFERENT)
def test_where_we_mean_to_differ(name: str, around: Path, theirs: dict[str, str | None]) -> None:
    text, uwsgis, our = DIFFERENT[name]
    assert theirs[name] == uwsgis
    found = _ours(_file(around, name, text))
    assert found == our if "=" in our or not our else our in found
    assert found != uwsgis
