"""From the words of a vassal's file to the callable that serves it.

An app speaks WSGI or ASGI. Which, its callable shows: one that is asynchronous, or that takes ``(scope, receive, send)``,
speaks ASGI. Where the vassal's file says which, an app that shows something else is refused.

A target is a module (``pkg.mod``, ``pkg.mod:name``, ``pkg.mod:factory()``) or a file. What goes wrong here is
the most frequent mistake of all, so every error says what was looked for, where, and what is there instead.
"""

import contextlib
import importlib
import importlib.util
import os
import re
import sys
import traceback
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, MethodType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Final

from vassals.loaders.place import standard_library

if TYPE_CHECKING:
    from emperor.config.spec import AppSpec

DEFAULT_NAMES: Final = ("application", "app")

_CO_COROUTINE: Final = 0x80
_CO_ASYNC_GENERATOR: Final = 0x200

_SHIM: Final = os.path.join(os.path.dirname(os.path.dirname(__file__)), "shim", "")


class LoadError(Exception):
    """The app cannot be loaded. ``reason`` is one line for ``emperor status``; ``details`` the traceback, for
    the log."""

    def __init__(self, reason: str, details: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.details = details


def load(app: "AppSpec", interface: str = "") -> Any:
    """Imports the app, after the modules that are to come before it, and returns its callable. ``interface``, ``wsgi`` or
    ``asgi``, is what it must speak; empty: it may be either. Raises LoadError, and nothing that the app raises."""
    for name in app.imports:
        _import_module(name)
    if app.module is not None:
        dotted, _, wanted = app.module.partition(":")
        module = _import_module(dotted)
        return _find(module, wanted or app.callable or "", f"module {dotted}", interface)
    if app.wsgi_file is not None:
        module = _import_file(app.wsgi_file)
        return _find(module, app.callable or "", app.wsgi_file, interface)
    raise LoadError("the vassal names no app: set module or wsgi-file")


def find(app: "AppSpec") -> None:
    """Finds and compiles the first module that `load` will run, and runs nothing of it: pages that the interpreter writes to
    on that way can be given back before any code of the app's is here. What goes wrong is left to `load`, which
    does it again."""
    with contextlib.suppress(Exception):
        spec: ModuleSpec | None = None
        if app.imports or app.module is not None:
            dotted = app.imports[0] if app.imports else str(app.module).partition(":")[0]
            name = dotted.partition(".")[0]
            if name.isidentifier() and name not in sys.modules:
                spec = importlib.util.find_spec(name)
        elif app.wsgi_file is not None:
            spec = _spec_of_file(app.wsgi_file)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            _compile(spec.loader, spec.name)
            _Found.spec = spec
            sys.meta_path.insert(0, _Found)


def _compile(loader: SourceFileLoader, name: str) -> None:
    code = loader.get_code(name)

    def once(fullname: str) -> CodeType | None:
        del loader.get_code
        return code

    loader.get_code = once  # type: ignore[method-assign]


class _Found:
    """Among the finders: what `find` has found, until somebody asks for it."""

    spec: ModuleSpec | None = None

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        spec = cls.spec
        if spec is None or spec.name != name:
            return None
        cls.spec = None
        sys.meta_path.remove(cls)
        return spec


def named(name: str) -> Any:
    """The callable that ``pkg.mod:name`` names. Raises LoadError."""
    dotted, _, wanted = name.partition(":")
    found = _walk(_import_module(dotted), wanted, f"module {dotted}")
    if not callable(found):
        raise LoadError(f"{wanted} in module {dotted} is {_article(found)}, which cannot be called")
    return found


def no_app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Stands in for an app that could not be loaded when ``need-app`` is off."""
    body = b"This vassal has no app.\n"
    start_response(
        "500 Internal Server Error", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    )
    return [body]


def _import_module(dotted: str) -> ModuleType:
    if not dotted or not all(part.isidentifier() for part in dotted.split(".")):
        raise LoadError(f"module {dotted!r} is no module name; a file is named by wsgi-file")
    try:
        return importlib.import_module(dotted)
    except BaseException as error:
        if isinstance(error, ModuleNotFoundError) and error.name and _is_within(dotted, error.name):
            library = standard_library()
            where = ", ".join(path for path in sys.path if path not in library)
            reason = f"there is no module {error.name!r}; looked in {where}"
            raise LoadError(reason, _details(error)) from None
        raise LoadError(_import_failed(f"module {dotted}", error), _details(error)) from None


def _is_within(dotted: str, missing: str) -> bool:
    """Whether ``missing`` is the target or a package of it, rather than something that the target imports."""
    return f"{dotted}.".startswith(f"{missing}.")


def _import_file(path: str) -> ModuleType:
    if not os.path.isfile(path):
        raise LoadError(f"there is no file {path}{_neighbours(path)}")
    name = module_name(path)
    spec = _Found.find_spec(name) or _spec_of_file(path)
    if spec is None or spec.loader is None:
        raise LoadError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        raise LoadError(_import_failed(path, error), _details(error)) from None
    return module


def _spec_of_file(path: str) -> ModuleSpec | None:
    # Named loader: a wsgi file needs no .py at its end (mod_wsgi's are .wsgi).
    name = module_name(path)
    return importlib.util.spec_from_file_location(name, path, loader=SourceFileLoader(name, path))


def module_name(path: str) -> str:
    """The module that a wsgi file becomes. Its prefix keeps ``flask.py`` from hiding Flask."""
    stem = os.path.basename(path).partition(".")[0]
    return "wsgi_file_" + re.sub(r"\W", "_", stem)


def _neighbours(path: str) -> str:
    folder = os.path.dirname(path) or "."
    try:
        files = sorted(name for name in os.listdir(folder) if name.endswith((".py", ".wsgi")))
    except OSError as error:
        return f": {error.strerror} ({folder})"
    return f"; {folder} has {', '.join(files[:8])}" if files else f"; {folder} has no .py file"


def _find(module: ModuleType, wanted: str, origin: str, interface: str) -> Any:
    if wanted:
        found = _walk(module, wanted, origin)
    else:
        for name in DEFAULT_NAMES:
            found = getattr(module, name, None)
            if found is not None:
                wanted = name
                break
        else:
            names = " nor ".join(DEFAULT_NAMES)
            raise LoadError(f"{origin} has neither {names}{_candidates(module)}; name it with callable")
    if not callable(found):
        raise LoadError(f"{wanted} in {origin} is {_article(found)}, which cannot be called")
    seen = speaks(found)
    if seen == "asgi 2":
        raise LoadError(
            f"{wanted} in {origin} is an ASGI 2 app, which takes a scope alone; "
            "asgiref.compatibility.guarantee_single_callable makes ASGI 3 of it"
        )
    if interface == "wsgi" and seen == "asgi":
        raise LoadError(f"{wanted} in {origin} is an ASGI app; name it by asgi = module:name")
    if interface == "asgi" and seen == "wsgi":
        raise LoadError(f"{wanted} in {origin} is a WSGI app; name it by module or wsgi-file")
    return found


def _walk(module: ModuleType, wanted: str, origin: str) -> Any:
    path, parenthesis, rest = wanted.partition("(")
    if parenthesis and rest != ")":
        raise LoadError(f"{wanted!r}: a factory is called without arguments: {path}()")
    if not all(part.isidentifier() for part in path.split(".")):
        raise LoadError(f"{wanted!r} is no name of a callable")
    found: Any = module
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise LoadError(f"{origin} has no {part!r}{_candidates(module)}") from None
    if not parenthesis:
        return found
    try:
        return found()
    except BaseException as error:
        raise LoadError(_import_failed(f"{wanted} in {origin}", error), _details(error)) from None


def _candidates(module: ModuleType) -> str:
    """Names in the module that look like an app, those defined there first."""
    names = [
        (getattr(value, "__module__", None) != module.__name__, name)
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and not isinstance(value, type)
    ]
    return f"; it has {', '.join(name for _, name in sorted(names)[:8])}" if names else "; it has no callable"


def speaks(found: Any) -> str:
    """What a callable shows that it speaks: ``asgi``, ``asgi 2``, ``wsgi``, or nothing that can be told."""
    while type(found).__name__ == "partial" and hasattr(found, "func"):
        found = found.func
    if isinstance(found, type):
        # An instance is made for each request: so it was in ASGI 2, and so it may be in WSGI (PEP 3333's AppClass).
        names = _names(getattr(vars(found).get("__init__"), "__code__", None))
        return "asgi 2" if names[1:] == ("scope",) and _is_coroutine(vars(found).get("__call__")) else ""
    if not hasattr(found, "__code__") and not isinstance(found, MethodType):
        found = next(
            (vars(kind)["__call__"] for kind in type(found).__mro__ if "__call__" in vars(kind)), None
        )
    if _is_coroutine(found):
        return "asgi"
    names = _names(getattr(found, "__code__", None))
    names = names[1:] if names[:1] == ("self",) or isinstance(found, MethodType) else names
    if names == ("scope", "receive", "send"):
        return "asgi"
    if names == ("scope",):
        return "asgi 2"
    return "wsgi" if names == ("environ", "start_response") else ""


def _is_coroutine(found: Any) -> bool:
    code = getattr(found, "__code__", None)
    return isinstance(code, CodeType) and bool(code.co_flags & (_CO_COROUTINE | _CO_ASYNC_GENERATOR))


def _names(code: Any) -> tuple[str, ...]:
    """Of the arguments that it takes by place."""
    return code.co_varnames[: code.co_argcount] if isinstance(code, CodeType) else ()


def _article(found: Any) -> str:
    return "a module" if isinstance(found, ModuleType) else f"of type {type(found).__name__}"


def _import_failed(origin: str, error: BaseException) -> str:
    place = place_of(error)
    if isinstance(error, SystemExit):
        return f"{origin} called sys.exit({error.code!r}) while it was imported{place}"
    lines = traceback.format_exception_only(error)
    # A syntax error is told in its last line, everything else in its first: what follows there are more lines
    # of a long message.
    line = lines[-1] if isinstance(error, SyntaxError) else lines[0].strip().partition("\n")[0]
    return f"{line.strip()}{place}{_private_library(error)}"


def _private_library(error: BaseException) -> str:
    """Why a module of the standard library is not found: this user may not look into the interpreter's directory."""
    if not isinstance(error, ModuleNotFoundError) or error.name not in sys.stdlib_module_names:
        return ""
    folder = os.path.dirname(os.__file__)
    if os.access(folder, os.R_OK | os.X_OK):
        return ""
    return f"; uid {os.getuid()} may not read the interpreter's library {folder}: use a Python installed for all users"


def place_of(error: BaseException) -> str:
    """`` (file:line)`` of the deepest frame that is the app's own and not the import system's."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}:{error.lineno})"
    place = ""
    at: TracebackType | None = error.__traceback__
    while at is not None:
        filename = at.tb_frame.f_code.co_filename
        if not _is_machinery(filename):
            place = f" ({filename}:{at.tb_lineno})"
        at = at.tb_next
    return place


def _is_machinery(filename: str) -> bool:
    """Frames that tell the app's author nothing: the import system's, this module's, and those of the `uwsgi` that we offer."""
    return filename.startswith(("<frozen", _SHIM)) or filename in (__file__, importlib.__file__)


def _details(error: BaseException) -> str:
    """The traceback without the machinery's frames."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if not _is_machinery(frame.filename)
    ]
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(frames)] if frames else []
    return "".join([*lines, *traceback.format_exception_only(error)])
