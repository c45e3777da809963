"""From a vassal's words to a callable, and what is said when there is none."""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emperor.config.spec import AppSpec
from vassals.loaders import target
from vassals.loaders.target import LoadError, load, module_name, no_app, speaks


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture(autouse=True, params=["at once", "found before"])
def what_it_takes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a worker has looked for the module before makes no difference."""
    if request.param == "found before":

        def found(app: AppSpec, interface: str = "") -> Any:
            finders = sys.meta_path[:]
            target.find(app)
            try:
                return target.load(app, interface)
            finally:
                assert sys.meta_path == finders

        monkeypatch.setattr(sys.modules[__name__], "load", found)


def write(here: Path, name: str, source: str) -> str:
    path = here / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    return str(path)


APP = "def {0}(environ, start_response):\n    return '{0}'\n"


def called(app: Any) -> Any:
    return app({}, None)


@pytest.mark.parametrize(
    ("target", "callable", "result"),
    [
        ("mod", None, "application"),
        ("mod:app", None, "app"),
        ("mod", "app", "app"),
        ("mod:other", "app", "other"),
        ("mod:make()", None, "made"),
        ("mod:box.inner", None, "inner"),
        ("pkg.sub", None, "app"),
        ("pkg.sub:app", None, "app"),
    ],
)
def test_module_targets(here: Path, target: str, callable: str | None, result: str) -> None:
    names = "".join(map(APP.format, ("application", "app", "other")))
    write(
        here,
        "mod.py",
        names
        + "def make():\n    return lambda e, s: 'made'\nclass box:\n    inner = staticmethod(lambda e, s: 'inner')\n",
    )
    write(here, "pkg/__init__.py", "")
    write(here, "pkg/sub.py", APP.format("app"))
    assert called(load(AppSpec(module=target, callable=callable))) == result


def test_a_file_needs_neither_a_py_name_nor_a_path_entry(here: Path) -> None:
    path = write(here, "sites/blog.wsgi", APP.format("application"))
    assert called(load(AppSpec(wsgi_file=path))) == "application"


def test_a_file_does_not_hide_a_module_of_its_name(here: Path) -> None:
    path = write(here, "sites/json.py", "import json\njson.loads\n" + APP.format("app"))
    assert called(load(AppSpec(wsgi_file=path))) == "app"
    assert module_name("/a/b-c.d.wsgi") == "wsgi_file_b_c"


def test_a_class_is_an_app(here: Path) -> None:
    write(here, "mod.py", "class application:\n    def __init__(self, environ, start_response): pass\n")
    assert isinstance(called(load(AppSpec(module="mod"))), object)


@pytest.mark.parametrize(
    ("source", "spec", "said"),
    [
        ("", {"module": "nowhere"}, ["there is no module 'nowhere'", "looked in", "{here}"]),
        ("", {"module": "nowhere.deep"}, ["there is no module 'nowhere'"]),
        ("", {"module": "mod.deep"}, ["there is no module 'mod.deep'"]),
        ("", {"module": "a-b"}, ["'a-b' is no module name", "wsgi-file"]),
        ("", {"module": "x.py"}, ["there is no module"]),
        ("", {"wsgi_file": "{here}/none.py"}, ["there is no file {here}/none.py", "has mod.py"]),
        ("", {"wsgi_file": "{here}/no/none.py"}, ["there is no file", "No such file or directory"]),
        ("", {}, ["set module or wsgi-file"]),
        ("", {"module": "mod"}, ["neither application nor app", "it has no callable", "callable"]),
        ("def serve(): pass\nimport json\n", {"module": "mod"}, ["module mod has neither", "it has serve"]),
        ("def serve(): pass\n", {"module": "mod:run"}, ["module mod has no 'run'", "it has serve"]),
        ("def serve(): pass\n", {"module": "mod:serve(1)"}, ["without arguments: serve()"]),
        ("app = 3\n", {"module": "mod"}, ["app in module mod is of type int"]),
        ("import json as app\n", {"module": "mod"}, ["app in module mod is a module"]),
        ("import flaks\n", {"module": "mod"}, ["No module named 'flaks'", "{here}/mod.py:1"]),
        ("\nx = 1 / 0\n", {"module": "mod"}, ["ZeroDivisionError: division by zero ({here}/mod.py:2)"]),
        (
            "\nx = 1 / 0\n",
            {"wsgi_file": "{here}/mod.py"},
            ["ZeroDivisionError: division by zero ({here}/mod.py:2)"],
        ),
        ("def f(:\n", {"module": "mod"}, ["SyntaxError", "{here}/mod.py:1"]),
        ("raise ValueError('one\\ntwo')\n", {"module": "mod"}, ["ValueError: one ({here}/mod.py:1)"]),
        ("import sys\nsys.exit(4)\n", {"module": "mod"}, ["called sys.exit(4)", "{here}/mod.py:2"]),
        ("raise KeyboardInterrupt\n", {"module": "mod"}, ["KeyboardInterrupt"]),
        (
            "def make():\n    raise KeyError('x')\n",
            {"module": "mod:make()"},
            ["KeyError: 'x' ({here}/mod.py:2)"],
        ),
    ],
)
def test_what_is_said(here: Path, source: str, spec: dict[str, str], said: list[str]) -> None:
    write(here, "mod.py", source)
    with pytest.raises(LoadError) as caught:
        load(AppSpec(**{key: value.format(here=here) for key, value in spec.items()}))
    for text in said:
        assert text.format(here=here) in caught.value.reason
    assert "\n" not in caught.value.reason


@pytest.mark.parametrize(
    ("source", "speaks_it"),
    [
        ("async def app(scope, receive, send): pass\n", "asgi"),
        ("def app(scope, receive, send): pass\n", "asgi"),
        ("class A:\n async def __call__(self, s, r, e): pass\nclass B(A): pass\napp = B()\n", "asgi"),
        ("class A:\n def __call__(self, scope, receive, send): pass\napp = A()\n", "asgi"),
        ("class A:\n async def serve(self, s, r, e): pass\napp = A().serve\n", "asgi"),
        ("import functools\nasync def f(a, b, c, d): pass\napp = functools.partial(f, 1)\n", "asgi"),
        ("def app(scope): pass\n", "asgi 2"),
        (
            "class app:\n def __init__(self, scope): pass\n async def __call__(self, receive, send): pass\n",
            "asgi 2",
        ),
        ("def app(environ, start_response): pass\n", "wsgi"),
        ("class A:\n def __call__(self, environ, start_response): pass\napp = A()\n", "wsgi"),
        ("def app(*args): pass\n", ""),
        ("class app:\n def __init__(self, environ, start_response): pass\n", ""),
        ("app = print\n", ""),
    ],
)
def test_what_an_app_shows_that_it_speaks(here: Path, source: str, speaks_it: str) -> None:
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    assert speaks(namespace["app"]) == speaks_it
    write(here, "mod.py", source)
    for wanted in ("wsgi", "asgi"):
        if speaks_it in ("", wanted):
            load(AppSpec(module="mod"), wanted)
            continue
        with pytest.raises(LoadError, match="an ASGI 2 app" if speaks_it == "asgi 2" else "name it by"):
            load(AppSpec(module="mod"), wanted)
        sys.modules.pop("mod", None)


def test_details_hold_the_apps_traceback_and_none_of_ours(here: Path) -> None:
    write(here, "mod.py", "import inner\n")
    write(here, "inner.py", "def f():\n    raise ValueError('deep')\nf()\n")
    with pytest.raises(LoadError) as caught:
        load(AppSpec(module="mod"))
    details = caught.value.details
    assert details.index("mod.py") < details.index("inner.py") < details.index("ValueError: deep")
    assert "importlib" not in details
    assert "target.py" not in details


def test_a_file_that_fails_leaves_no_half_module(here: Path) -> None:
    path = write(here, "sites/blog.py", "x = 1\n1 / 0\n")
    with pytest.raises(LoadError):
        load(AppSpec(wsgi_file=path))
    assert "wsgi_file_blog" not in sys.modules


def test_no_app_answers_500() -> None:
    heads: list[tuple[str, list[tuple[str, str]]]] = []
    (body,) = no_app({}, lambda *head: heads.append(head))
    assert heads[0][0].startswith("500 ")
    assert ("Content-Length", str(len(body))) in heads[0][1]


def test_a_private_interpreter_is_named_as_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ModuleNotFoundError("No module named 'hashlib'", name="hashlib")
    assert target._private_library(error) == ""
    monkeypatch.setattr(target.os, "access", lambda path, mode: False)
    assert f"uid {os.getuid()} may not read the interpreter's library" in target._private_library(error)
    assert target._private_library(ModuleNotFoundError("No module named 'nope'", name="nope")) == ""


@pytest.mark.parametrize("kind", ["module", "package", "wsgi_file", "imports"])
def test_what_is_found_is_compiled_and_not_run(here: Path, kind: str) -> None:
    source = "import sys\nsys.ran = True\n" + APP.format("app")
    name = "found/__init__.py" if kind == "package" else "found.py"
    path = write(here, name, source)
    write(here, "found/sub.py", APP.format("app"))
    write(here, "other.py", APP.format("app"))
    app = {
        "module": AppSpec(module="found"),
        "package": AppSpec(module="found.sub"),
        "wsgi_file": AppSpec(wsgi_file=path),
        "imports": AppSpec(imports=("found",), module="other"),
    }[kind]
    target.find(app)
    assert not hasattr(sys, "ran")
    (here / name).write_text("1 / 0\n")  # it is read already
    try:
        assert called(target.load(app)) == "app"
        assert sys.ran
    finally:
        del sys.ran
    module = sys.modules[module_name(path) if kind == "wsgi_file" else "found"]
    assert "get_code" not in vars(module.__loader__)
    with pytest.raises(ZeroDivisionError):
        importlib.reload(module) if kind != "wsgi_file" else module.__loader__.exec_module(module)
