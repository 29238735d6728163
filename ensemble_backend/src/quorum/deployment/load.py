# SPDX-License-Identifier: Apache-2.0
"""Read ``deploy.yaml``; every error names file, line, key and fix."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from yaml.error import MarkedYAMLError
from yaml.reader import ReaderError

from quorum.deployment.schema import SCHEMA_VERSION, Deployment
from quorum_contract.errors import QuorumError

Place = tuple[str, ...]
"""Keys and numbers of list items, from the top of the file."""
MAX_REPEATED = 20_000
"""Values that the aliases of a file may repeat; a few hundred bytes can repeat millions."""
MAX_DEPTH = 32
"""Levels of mappings and lists; a deployment has five."""
MAX_PROBLEMS = 20
"""Problems of a file that one error names."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_HEAD, _TAIL = 600, 100


class DeploymentError(QuorumError, ValueError):
    """``deploy.yaml`` cannot be used; one line per problem, each with file, line, key and fix."""

    code = "DEPLOYMENT_INVALID"


def load_deployment(path: str | Path) -> Deployment:
    """Read and check a ``deploy.yaml``; its paths stay relative to the file.

    Raises DeploymentError for a file that is missing, no YAML, or describes no valid deployment.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        text = content.decode("utf-8")
    except OSError as error:
        fix = "name the file with --deploy"
        if isinstance(error, FileNotFoundError):
            fix += ", or write one: `quorum init`"
        raise DeploymentError(f"{path}: {error.strerror}; {fix}") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DeploymentError(f"{path}:{line}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
    return parse_deployment(path, text)


def parse_deployment(path: Path, text: str) -> Deployment:
    """Check the text of a ``deploy.yaml`` that may not be written yet; as :func:`load_deployment`."""
    data, lines = _read(path, text)
    if not isinstance(data, dict):
        raise DeploymentError(f"{path}:1: expected a mapping with `members` and `attributes`")
    if "path" in data:
        unknown = {"loc": ("path",), "type": "extra_forbidden", "msg": ""}
        raise DeploymentError(_describe(path, lines, unknown))
    if strange := [key for key in data if not isinstance(key, str)]:
        line = lines.get((str(strange[0]),), 1)
        raise DeploymentError(f"{path}:{line}: key {_short(repr(strange[0]))}: keys must be text: quote it")
    _check_version(path, data.get("schema_version", SCHEMA_VERSION), lines)
    try:
        return Deployment(**{**data, "path": path})
    except ValidationError as error:
        problems = [_describe(path, lines, problem) for problem in error.errors()]
        if len(problems) > MAX_PROBLEMS:
            more = len(problems) - MAX_PROBLEMS
            problems[MAX_PROBLEMS:] = [f"{path}:1: {more} more problems; fix these first"]
        raise DeploymentError("\n".join(problems)) from error


def _check_version(path: Path, version: object, lines: Mapping[Place, int]) -> None:
    """Refuse a file of a later schema by that alone: what else this release does not know follows from it."""
    if isinstance(version, int) and not isinstance(version, bool) and version > SCHEMA_VERSION:
        raise DeploymentError(
            f"{path}:{lines[('schema_version',)]}: schema_version is {version}, this quorum reads"
            f" {SCHEMA_VERSION}; upgrade quorum (`quorum --version` shows which one runs)"
        )


class _Loader(yaml.SafeLoader):
    """Refuses what no deployment has, and names the line of a value that cannot be made."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            # While the text is read: the parser takes the square of the depth.
            mark = parent.start_mark if parent else None
            raise MarkedYAMLError(problem="nested too deeply; a deployment has few levels", problem_mark=mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(node, yaml.ScalarNode) and _SURROGATE.search(node.value):
            raise MarkedYAMLError(
                problem=f"{_short(ascii(node.value))} holds half a character, which no UTF-8 can; write the "
                "character itself",
                problem_mark=node.start_mark,
            )
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        # PyYAML lets these through for a tag that does not fit its value, a date that is none, a long number.
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise MarkedYAMLError(
                problem=f"a value cannot be read ({error}); write it in quotes", problem_mark=node.start_mark
            ) from error


def _read(path: Path, text: str) -> tuple[Any, dict[Place, int]]:
    """The values of a YAML text, and the 1-based line of every key and list item."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        # Before values are made, as they would be made again for each alias.
        _expanded_size(path, node, {})
        lines = _lines_of(path, node)
        return loader.construct_document(node), lines
    except ReaderError as error:
        line, code = text.count("\n", 0, error.position) + 1, ord(text[error.position])
        raise DeploymentError(
            f"{path}:{line}: not YAML: holds the control character U+{code:04X}; remove it"
        ) from error
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise DeploymentError(f"{path}:{line}: not YAML: {_short(str(error.problem))}") from error


def _describe(path: Path, lines: Mapping[Place, int], error: Mapping[str, Any]) -> str:
    loc, kind = error["loc"], error["type"]
    if kind == "at_key":
        # A check of a whole mapping names the faulty key.
        loc = (*loc, *error["ctx"]["keys"])
    names = [p if isinstance(p, int) or (isinstance(p, str) and p.isprintable()) else repr(p) for p in loc]
    key = "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in names).lstrip(".")
    text = error["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        known = _known_keys(loc[:-1])
        close = difflib.get_close_matches(str(loc[-1]), known, 1)
        fix = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
        text = f"unknown key; {fix}"
    elif kind == "missing":
        text = "missing; add it"
    elif kind not in ("value_error", "at_key") and not isinstance(error.get("input"), dict | list):
        text += f" (given: {error.get('input')!r})"
        if kind == "string_type" and error.get("input") is not None:
            # What people write as yes, no, on, off, 5 or 2024-01-01.
            text += "; that is how YAML reads it without quotes: quote it"
    # The line of the deepest part that is in the file.
    place = tuple(map(str, loc))
    while place not in lines:
        place = place[:-1]
    return f"{path}:{lines[place]}: {_short(key) or 'top level'}: {_short(text)}"


def _short(words: str) -> str:
    return words if len(words) <= _HEAD + _TAIL else f"{words[:_HEAD]} ... {words[-_TAIL:]}"


def _lines_of(path: Path, node: yaml.Node) -> dict[Place, int]:
    """The 1-based line of every key and list item; refuses keys that appear twice."""
    lines: dict[Place, int] = {(): node.start_mark.line + 1}
    twice: dict[Place, str] = {}
    for place, line in _lines(node):
        if place in lines and not any(place[:depth] in twice for depth in range(len(place))):
            twice[place] = f"{path}:{line}: key {_short(repr(place[-1]))} appears twice; keep one"
        lines[place] = line
    if twice:
        raise DeploymentError("\n".join([*twice.values()][:MAX_PROBLEMS]))
    return lines


def _expanded_size(path: Path, node: yaml.Node, sizes: dict[int, int]) -> int:
    """Count the values of a node with its aliases written out; ``sizes`` has those counted so far, by id.

    Raises DeploymentError for an anchor that holds itself, and above MAX_REPEATED values from aliases.
    """
    line = node.start_mark.line + 1
    known = sizes.setdefault(id(node), 0)
    if known:
        return known
    parts = node.value if isinstance(node, yaml.CollectionNode) else []
    size = 1
    for part in parts:
        for value in part if isinstance(part, tuple) else (part,):
            if sizes.get(id(value)) == 0:
                raise DeploymentError(f"{path}:{line}: an anchor holds itself; write the value out")
            size += _expanded_size(path, value, sizes)
    sizes[id(node)] = size
    if size - len(sizes) > MAX_REPEATED:
        raise DeploymentError(
            f"{path}:{line}: aliases (*name) repeat more than {MAX_REPEATED} values; write the values out"
        )
    return size


def _lines(node: yaml.Node, place: Place = ()) -> Iterator[tuple[Place, int]]:
    parts: list[tuple[object, yaml.Node, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        parts = [(key.value, key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        parts = [(number, item, item) for number, item in enumerate(node.value)]
    for name, marked, value in parts:
        here = (*place, str(name))
        yield here, marked.start_mark.line + 1
        yield from _lines(value, here)


def _known_keys(loc: Sequence[str | int]) -> list[str]:
    """Keys of the model at ``loc``, following the annotations of the fields."""
    model: type[BaseModel] = Deployment
    for part in loc:
        field = model.model_fields.get(str(part))
        model = (field and _model_in(field.annotation)) or model
    return [name for name, field in model.model_fields.items() if not field.exclude]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation is, or holds as a list's or mapping's value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
