# SPDX-License-Identifier: Apache-2.0
"""Read ``deploy.yaml``; every error names file, line, key and fix."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from quorum.deployment.schema import Deployment
from quorum_contract.errors import QuorumError

Location = tuple[str | int, ...]


class DeploymentError(QuorumError, ValueError):
    """``deploy.yaml`` cannot be used; one line per problem, each with file, line, key and fix."""

    code = "DEPLOYMENT_INVALID"


def load_deployment(path: str | Path) -> Deployment:
    """Read and check a deployment.

    Args:
        path: A ``deploy.yaml``.

    Returns:
        The deployment; paths stay relative to the file.

    Raises:
        DeploymentError: The file is missing, no YAML, or describes no valid deployment.
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
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise DeploymentError(f"{path}{line}: not YAML: {getattr(error, 'problem', error)}") from error
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        # PyYAML lets these through for a tag that does not fit its value, and for text nested without end.
        raise DeploymentError(f"{path}: a value cannot be read ({error}); write it in quotes") from error
    if not isinstance(data, dict) or not isinstance(node, yaml.MappingNode):
        raise DeploymentError(f"{path}: expected a mapping with `members` and `attributes`")
    try:
        duplicates = _duplicate_keys(node)
    except RecursionError:
        raise DeploymentError(f"{path}: an anchor holds itself; write the value out") from None
    if duplicates:
        raise DeploymentError(
            "\n".join(f"{path}:{line}: key {key!r} appears twice; keep one" for key, line in duplicates)
        )
    if "path" in data:
        known = ", ".join(_known_keys(()))
        raise DeploymentError(f"{path}:{_line_of(node, ('path',))}: path: unknown key; known keys: {known}")
    try:
        return Deployment(**{**data, "path": path})
    except ValidationError as error:
        problems = [
            _describe(path, node, _location(e), e["type"], e["msg"], e.get("input")) for e in error.errors()
        ]
        raise DeploymentError("\n".join(problems)) from error
    except TypeError as error:
        raise DeploymentError(f"{path}: keys must be text ({error})") from error


def _location(error: Mapping[str, Any]) -> Location:
    """Location of the error: a check of a whole mapping may name the faulty key."""
    key = error.get("ctx", {}).get("key")
    return (*error["loc"], key) if error["type"] == "at_key" else error["loc"]


def _describe(path: Path, node: yaml.Node, loc: Location, kind: str, message: str, given: Any) -> str:
    line = _line_of(node, loc)
    key = (
        "".join(f"[{part}]" if isinstance(part, int) else f".{_shown(part)}" for part in loc).lstrip(".")
        or "top level"
    )
    if kind == "extra_forbidden":
        known = _known_keys(loc[:-1])
        close = difflib.get_close_matches(str(loc[-1]), known, 1)
        fix = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
        return f"{path}:{line}: {key}: unknown key; {fix}"
    if kind == "missing":
        return f"{path}:{line}: {key}: missing; add it"
    text = message.removeprefix("Value error, ")
    shown = (
        f" (given: {given!r})"
        if kind not in ("value_error", "at_key") and not isinstance(given, dict | list)
        else ""
    )
    return f"{path}:{line}: {key}: {text}{shown}"


def _shown(key: str) -> str:
    return key if key.isprintable() else repr(key)


def _line_of(node: yaml.Node, loc: Location) -> int:
    """The 1-based line of the deepest part of ``loc`` that exists in the file."""
    line = node.start_mark.line
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            matches = [(k, v) for k, v in node.value if k.value == str(part)]
            if not matches:
                break
            line, node = matches[0][0].start_mark.line, matches[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
        else:
            break
    return line + 1


def _known_keys(loc: Sequence[str | int]) -> list[str]:
    """Keys of the model at ``loc``, following the annotations of the fields."""
    model: type[BaseModel] = Deployment
    for part in loc:
        field = model.model_fields.get(str(part))
        if field is None:
            continue
        nested = [t for t in [field.annotation, *_type_args(field.annotation)] if _is_model(t)]
        if nested:
            model = nested[0]
    return [name for name, field in model.model_fields.items() if not field.exclude]


def _type_args(annotation: Any) -> list[Any]:
    return [inner for arg in get_args(annotation) for inner in [arg, *_type_args(arg)]]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _duplicate_keys(node: yaml.Node) -> list[tuple[str, int]]:
    duplicates: list[tuple[str, int]] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                duplicates.append((key.value, key.start_mark.line + 1))
            seen.add(key.value)
            duplicates += _duplicate_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            duplicates += _duplicate_keys(value)
    return duplicates
