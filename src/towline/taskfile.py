"""Read `towline.yaml` and describe it: the edge where text becomes a `TaskSpec`.

Strict: an unknown key is an error that names file, line, key and the nearest known key. The file
is data only: no tags, no includes, no interpolation.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml

from towline.core.task import TaskSpec
from towline.errors import SpecError

FILE_NAME = "towline.yaml"
_SIZE_LIMIT = 1_000_000


def load(path: Path) -> TaskSpec:
    """Read a task file.

    Raises:
        SpecError: It can't be read, is not YAML, or says what no task can say.
    """
    node = _compose(path)
    data = _plain(node, path)
    if not isinstance(data, dict):
        raise SpecError(f"{path}: a task file is a mapping of keys", hint="see docs/task-file.md")
    return validate(data, where=str(path), node=node)


def read_yaml(path: Path) -> Any:
    """Read a YAML file into plain data.

    Raises:
        SpecError: It can't be read or is not YAML.
    """
    return _plain(_compose(path), path)


def validate(data: Mapping[str, Any], where: str = "task", node: Any = None) -> TaskSpec:
    """Check plain data against the task's shape.

    Args:
        data: The keys.
        where: File name or other place for messages.
        node: The YAML node it came from, for line numbers.

    Raises:
        SpecError: Names the place, the key, and what would be right.
    """
    task, found = _built(data)
    if task is None:
        problems = [_problem(one, keys, where, node) for keys, one in found]
        raise SpecError("; ".join(problems), hint="`towline schema` describes every key")
    return task


def as_stored(data: Mapping[str, Any], where: str) -> tuple[TaskSpec, list[str]]:
    """Read a run's task, which another version of towline may have stored, as far as it goes.

    Returns:
        The task, with the default for each key that is not understood; and what is wrong with each.
    """
    data = copy.deepcopy(dict(data))
    left: list[str] = []
    while True:
        task, found = _built(data)
        if task is not None:
            return task, left
        for place, one in reversed(found):  # of a list the last first
            keys = _guilty(data, place)
            left.append(_problem(one, keys, where, None))
            _leave_out(data, keys)


def _built(data: Mapping[str, Any]) -> tuple[TaskSpec | None, list[tuple[tuple[Any, ...], Any]]]:
    """The task, or None and the complaints, one a place: (keys, complaint)."""
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - 60 ms

    known = _known_keys()
    said = {  # a section whose keys are all commented out says nothing
        key: value for key, value in data.items() if value is not None or key not in known
    }
    try:
        return TypeAdapter(TaskSpec).validate_python(said), []
    except ValidationError as error:
        return None, _specific(error.errors(), said)


def _guilty(data: Mapping[str, Any], keys: tuple[Any, ...]) -> tuple[Any, ...]:
    """Where a section as a whole is refused, the one key without which it would not be.

    What else stands there, such as a limit of the cost, then stays.
    """
    section = data.get(keys[0])
    if len(keys) == 1 and isinstance(section, Mapping):
        for key in section:
            rest = {name: value for name, value in section.items() if name != key}
            if _built({keys[0]: rest})[0] is not None:
                return keys[0], key
    return keys


def _leave_out(data: Any, keys: tuple[Any, ...]) -> None:
    """Take the value at these keys out; where one is missing, what lacks it."""
    holder, last = data, keys[0]
    for key in keys[1:]:
        within = holder[last] if _holds(holder, last) else None
        if not _holds(within, key):
            break
        holder, last = within, key
    if _holds(holder, last):
        del holder[last]


def _holds(value: Any, key: Any) -> bool:
    if isinstance(value, list):
        return isinstance(key, int) and key < len(value)
    return isinstance(value, dict) and key in value


def as_data(task: TaskSpec) -> dict[str, Any]:
    """The task as plain data that `validate` reads back."""
    return dataclasses.asdict(task)


def json_schema() -> dict[str, Any]:
    """JSON Schema of the task file."""
    from pydantic import TypeAdapter  # noqa: PLC0415

    schema = TypeAdapter(TaskSpec).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _refused(message: str) -> SpecError:
    return SpecError(message, hint="correct it there; docs/task-file.md shows every key")


def _compose(path: Path) -> Any:
    try:
        if path.stat().st_size > _SIZE_LIMIT:
            raise _refused(f"{path} is larger than a task file can be (1 MB)")
        return yaml.compose(path.read_text("utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise SpecError(f"{path} can't be read: {error.strerror}", hint="check the path") from error
    except UnicodeDecodeError as error:
        raise _refused(f"{path} is not UTF-8 text") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or str(error)
        raise _refused(f"{path}{line}: not valid YAML: {what}") from error
    except RecursionError as error:
        raise _refused(f"{path} is nested deeper than a task file can be") from error


def _plain(node: Any, path: Path) -> Any:
    """Build plain data from a node; refuses doubled keys and aliases (a bomb needs them)."""
    if node is None:
        return {}
    loader = yaml.SafeLoader("")
    try:
        _refuse_tricks(node, path, set())
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise _refused(f"{path}: {getattr(error, 'problem', error)}") from error
    except RecursionError as error:
        raise _refused(f"{path} is nested deeper than a task file can be") from error
    except (ValueError, LookupError, AttributeError) as error:  # `2024-99-99`, `!!bool maybe`
        raise _refused(f"{path}: a value is not of its YAML type: {error}") from error
    finally:
        loader.dispose()


def _refuse_tricks(node: Any, path: Path, seen: set[int]) -> None:
    if id(node) in seen:
        raise _refused(
            f"{path}:{node.start_mark.line + 1}: YAML aliases are not used in task files"
        )
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _refused(f"{path}:{key.start_mark.line + 1}: a key must be one word")
            if key.value in keys:
                raise _refused(f"{path}:{key.start_mark.line + 1}: key {key.value!r} stands twice")
            keys.add(key.value)
            _refuse_tricks(value, path, seen)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_tricks(value, path, seen)


def _specific(found: list[Any], data: Any) -> list[tuple[tuple[Any, ...], Any]]:
    """Of a union's complaints keep the deepest, and one a place: (keys, complaint)."""
    places: dict[tuple[Any, ...], Any] = {}
    for one in found:
        places.setdefault(_keys(one, data), one)
    return [
        (keys, one)
        for keys, one in places.items()
        if not any(other[: len(keys)] == keys and other != keys for other in places)
    ]


def _keys(error: Any, data: Any) -> tuple[Any, ...]:
    """The part of pydantic's location that is keys of the file, not names of union members."""
    keys = []
    for part in error["loc"]:
        in_mapping = isinstance(data, Mapping) and part in data
        if in_mapping or (isinstance(data, list) and isinstance(part, int)):
            data = data[part]
            keys.append(part)
    if error["type"] == "missing":
        keys.append(error["loc"][-1])
    return tuple(keys)


def _known_keys() -> dict[str, list[str]]:
    """Keys of the task, and of each of its sections."""
    hints = get_type_hints(TaskSpec)
    known = {}
    for field in dataclasses.fields(TaskSpec):
        kinds = [hints[field.name], *get_args(hints[field.name])]
        classes = [kind for kind in kinds if dataclasses.is_dataclass(kind)]
        known[field.name] = [f.name for kind in classes for f in dataclasses.fields(kind)]
    return known


def _problem(error: Any, keys: tuple[Any, ...], where: str, node: Any) -> str:
    line = _line(node, keys)
    place = f"{where}:{line}" if line else where
    dotted = ".".join(str(key) for key in keys)
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        siblings = list(_known_keys()) if len(keys) == 1 else _known_keys().get(keys[0], [])
        near = difflib.get_close_matches(str(keys[-1]), siblings, n=1, cutoff=0.5)
        guess = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(siblings)}"
        return f"{place}: unknown key {dotted!r}; {guess}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] in {"dataclass_type", "dict_type"}:
        message = "a mapping of keys is wanted here"
    if error["type"] == "literal_error" and keys[0] in {"on_success", "on_failure"}:
        message += ", or `keep: 30m` for example"
    return f"{place}: {dotted}: {message}"


def _line(node: Any, keys: tuple[Any, ...]) -> int | None:
    """Line of a key in the file, counted from 1."""
    line = None
    for wanted in keys:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(wanted):
                    line, node = key.start_mark.line + 1, value
                    break
        elif isinstance(node, yaml.SequenceNode) and wanted in range(len(node.value)):
            node = node.value[wanted]
            line = node.start_mark.line + 1
    return line
