"""What a worker needs to load one app, and nothing else.

The one part of a vassal's configuration that leaves this package: the loading step fills it in, it travels
inside the gateway's specification as JSON, and a worker reads it back. It therefore depends on nothing, so
that a worker that reads it imports no parser and no option table.
"""

from dataclasses import dataclass
from typing import Any

_TEXTS = ("module", "wsgi_file", "callable", "chdir", "virtualenv")
_KEYS = frozenset((*_TEXTS, "pythonpath", "env"))


@dataclass(frozen=True)
class AppSpec:
    """Where an app is found and what surrounds it. All paths are absolute.

    `module` is ``pkg.mod``, ``pkg.mod:name`` or ``pkg.mod:factory()``; exactly one of it and `wsgi_file` is
    set in a specification made from a checked file. `callable` None means that the loader decides
    (``application``, then what it detects). `pythonpath` and `env` are in the order of the file; a later
    `env` pair overrides an earlier one.
    """

    module: str | None = None
    wsgi_file: str | None = None
    callable: str | None = None
    chdir: str | None = None
    virtualenv: str | None = None
    pythonpath: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A dict of strings, None, lists of strings and lists of pairs, ready for `json.dumps`."""
        return {
            **{key: getattr(self, key) for key in _TEXTS},
            "pythonpath": list(self.pythonpath),
            "env": [list(pair) for pair in self.env],
        }

    @classmethod
    def from_json(cls, document: Any) -> "AppSpec":
        """The inverse of `to_json`. Raises ValueError naming the key that is missing, unknown or of a
        wrong type.
        """
        if not isinstance(document, dict):
            raise ValueError(f"app: an object expected, not {type(document).__name__}")
        for key in sorted(_KEYS - document.keys()):
            raise ValueError(f"app.{key}: missing")
        for key in sorted(map(str, document.keys() - _KEYS)):
            raise ValueError(f"app.{key}: unknown key")
        for key in _TEXTS:
            if document[key] is not None and not isinstance(document[key], str):
                raise ValueError(f"app.{key}: a string or null expected, not {type(document[key]).__name__}")
        pythonpath, env = document["pythonpath"], document["env"]
        if not _is_list_of_text(pythonpath):
            raise ValueError("app.pythonpath: a list of strings expected")
        if not isinstance(env, list) or not all(_is_list_of_text(pair) and len(pair) == 2 for pair in env):
            raise ValueError("app.env: a list of pairs of strings expected")
        return cls(
            **{key: document[key] for key in _TEXTS},
            pythonpath=tuple(pythonpath),
            env=tuple((name, value) for name, value in env),
        )


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
