"""The keys of a YAML file, with the lines they stand on.

Scalars are taken as they are written, like the values of an INI file, and typed by their option: YAML 1.1's
own ideas (``0664`` is 436, ``no`` is false, ``1:30`` is 90) would change what a value of uWSGI's means. Only
mappings, lists and plain scalars: a tag may name any Python object, a key that is there twice hides the
first, and aliases of aliases fill the memory.

PyYAML is an extra, ``emperor-vassals[yaml]``: only who writes YAML needs it.
"""

from typing import Any

from emperor.config.entries import Reading
from emperor.config.problems import Problem
from emperor.config.tables import Keys, entries_of

_MOST_NODES = 20_000
_DEEPEST = 20
_PLAIN = tuple(
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "timestamp", "value")
)
_MERGE = "tag:yaml.org,2002:merge"


class _Refused(Exception):
    def __init__(self, line: int, key: str | None, reason: str, hint: str | None = None) -> None:
        super().__init__(reason)
        self.line, self.key, self.reason, self.hint = line, key, reason, hint


def read(text: str, path: str) -> Reading:
    """All entries of the file. Whatever is wrong with its form leaves no entries."""
    reading = Reading()
    try:
        import yaml
    except ImportError:
        reading.problems.append(
            Problem(
                path,
                None,
                None,
                "is YAML, and PyYAML is not installed where the emperor runs",
                "pip install 'emperor-vassals[yaml]', or write it as .ini or .toml",
            )
        )
        return reading
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None:
            return reading
        if not isinstance(root, yaml.MappingNode):
            raise _Refused(_line(root), None, "is no mapping", "write uwsgi: and the options below it")
        builder = _Builder(yaml)
        document = builder.mapping(root, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = f"is not YAML: {error.problem or error.context}"
        reading.problems.append(
            Problem(
                path,
                None if mark is None else mark.line + 1,
                None,
                reason if mark is None else f"{reason} at column {mark.column + 1}",
            )
        )
        return reading
    except yaml.YAMLError as error:
        reading.problems.append(Problem(path, None, None, f"is not YAML: {str(error).splitlines()[0]}"))
        return reading
    except RecursionError:
        reading.problems.append(Problem(path, None, None, "is nested too deep"))
        return reading
    except _Refused as error:
        reading.problems.append(Problem(path, error.line, error.key, error.reason, error.hint))
        return reading
    return entries_of(document, builder.lines, path, header="{}:")


class _Builder:
    """From nodes to dicts, lists and text, noting the lines of keys."""

    def __init__(self, yaml: Any) -> None:
        self.lines: dict[Keys, int] = {}
        self._yaml = yaml
        self._nodes = 0

    def mapping(self, node: Any, prefix: Keys) -> dict[str, Any]:
        document: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = _line(key_node)
            if not isinstance(key_node, self._yaml.ScalarNode):
                raise _Refused(line, None, "a key is no plain text")
            if key_node.tag == _MERGE:
                nodes = value_node.value if isinstance(value_node, self._yaml.SequenceNode) else [value_node]
                for each in nodes:
                    if not isinstance(each, self._yaml.MappingNode):
                        raise _Refused(line, "<<", "merges what is no mapping")
                    self._count(line)
                    for key, value in self.mapping(each, prefix).items():
                        merged.setdefault(key, value)
                continue
            key = key_node.value
            if key in document:
                first = self.lines[(*prefix, key)]
                raise _Refused(line, key, f"is there already, in line {first}", "give a list of values")
            self.lines[(*prefix, key)] = line
            document[key] = self._value(value_node, (*prefix, key))
        return {**{key: value for key, value in merged.items() if key not in document}, **document}

    def _value(self, node: Any, keys: Keys) -> Any:
        line = _line(node)
        self._count(line)
        if len(keys) > _DEEPEST:
            raise _Refused(line, None, "is nested too deep")
        if isinstance(node, self._yaml.MappingNode):
            return self.mapping(node, keys)
        if isinstance(node, self._yaml.SequenceNode):
            return [self._value(each, (*keys, "-")) for each in node.value]
        if node.tag not in _PLAIN:
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            raise _Refused(line, keys[-1], f"has the tag {tag}", "write plain text, a list or a mapping")
        if node.tag.endswith(":null") and node.style is None:
            return None
        return node.value

    def _count(self, line: int) -> None:
        # An alias is the very node it stands for: what grows by aliases of aliases is counted as it is built.
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise _Refused(line, None, f"has more than {_MOST_NODES} values")


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1
