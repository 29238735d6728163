# SPDX-License-Identifier: Apache-2.0
"""Read ``deploy.yaml``; every error names file, line, key and fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from quorum.deployment.schema import Deployment
from quorum_contract.errors import QuorumError

Place = tuple[str, ...]
"""Keys and numbers of list items, from the top of the file."""
MAX_REPEATED = 20_000
"""Values that the aliases of a file may repeat; a few hundred bytes can repeat millions."""


class DeploymentError(QuorumError, ValueError):
    """``deploy.yaml`` cannot be used; one line per problem, each with file, line, key and fix."""

    code = "DEPLOYMENT_INVALID"


def load_deployment(path: str | Path) -> Deployment:
    """Read and check a ``deploy.yaml``; its paths stay relative to the file.

    Raises DeploymentError for a file that is missing, no YAML, or describes no valid deployment.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise DeploymentError(f"{path}: {error.strerror}; name the file with --deploy") from error
    except UnicodeDecodeError as error:
        raise DeploymentError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            # Before values are made, as they would be made again for each alias.
            _expanded_size(path, node, {})
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise DeploymentError(f"{path}{line}: not YAML: {getattr(error, 'problem', error)}") from error
    except RecursionError as error:
        raise DeploymentError(f"{path}: nested too deeply; a deployment has few levels") from error
    except DeploymentError:
        raise
    except (ValueError, KeyError, AttributeError) as error:
        # PyYAML lets these through for a tag that does not fit its value.
        raise DeploymentError(f"{path}: a value cannot be read ({error}); write it in quotes") from error
    if not isinstance(data, dict) or not isinstance(node, yaml.MappingNode):
        raise DeploymentError(f"{path}: expected a mapping with `members` and `attributes`")
    lines = _lines_of(path, node)
    if "path" in data:
        unknown = {"loc": ("path",), "type": "extra_forbidden", "msg": ""}
        raise DeploymentError(_describe(path, lines, unknown))
    try:
        return Deployment(**{**data, "path": path})
    except ValidationError as error:
        problems = [_describe(path, lines, problem) for problem in error.errors()]
        raise DeploymentError("\n".join(problems)) from error
    except TypeError as error:
        raise DeploymentError(f"{path}: keys must be text ({error})") from error


def _describe(path: Path, lines: Mapping[Place, int], error: Mapping[str, Any]) -> str:
    loc, kind = error["loc"], error["type"]
    if kind == "at_key":
        # A check of a whole mapping names the faulty key.
        loc = (*loc, error["ctx"]["key"])
    names = [part if isinstance(part, int) or part.isprintable() else repr(part) for part in loc]
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
    return f"{path}:{lines[place]}: {key or 'top level'}: {text}"


def _lines_of(path: Path, node: yaml.Node) -> dict[Place, int]:
    """The 1-based line of every key and list item; refuses keys that appear twice."""
    lines: dict[Place, int] = {(): node.start_mark.line + 1}
    twice: dict[Place, str] = {}
    for place, line in _lines(node):
        if place in lines and not any(place[:depth] in twice for depth in range(len(place))):
            twice[place] = f"{path}:{line}: key {place[-1]!r} appears twice; keep one"
        lines[place] = line
    if twice:
        raise DeploymentError("\n".join(twice.values()))
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
