# SPDX-License-Identifier: Apache-2.0
"""Declare and check options of runtimes, with a fix in every error."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from quorum_contract.errors import QuorumError

_WORDS: Mapping[Any, str] = MappingProxyType(
    {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
)


class OptionError(QuorumError, ValueError):
    """A runtime cannot start with these options.

    Attributes:
        key: The option at fault.
    """

    code = "OPTION_INVALID"

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True, slots=True)
class Hint:
    """Text on an option for messages: ``words`` for its type, e.g. "a whole number", and the ``fix``."""

    words: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Existing(Hint):
    """Marks an option that names an existing path; a folder must hold the files ``holds``."""

    words: str = "a path"
    holds: tuple[str, ...] = ()


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the options of all runtimes.

    Attributes:
        runtime: Name of the runtime in ``deploy.yaml``.
        served_by: Its class, as ``module:class``; imported on demand, since its dependencies are heavy.
        install: How to install its packages.
    """

    runtime: ClassVar[str]
    served_by: ClassVar[str]
    install: ClassVar[str] = "install it"

    @property
    def llm(self) -> str:
        """The model that the options name; empty where there is none."""
        return ""


SomeOptions = TypeVar("SomeOptions", bound=Options)


def convert(options: type[SomeOptions], given: Mapping[str, Any]) -> SomeOptions:
    """Check options of ``deploy.yaml`` and fill in defaults; null options count as left out.

    Raises:
        OptionError: An option is unknown or missing, or has an invalid value.
    """
    try:
        return msgspec.convert({key: value for key, value in given.items() if value is not None}, options)
    except msgspec.ValidationError as error:
        raise _fault(options, given, error) from error


def find_missing(options: Options, root: Path) -> list[tuple[str, str]]:
    """Find missing files and folders that the options name, relative to ``root``.

    Returns:
        Pairs of option and problem with its fix.
    """
    problems: list[tuple[str, str]] = []
    for field in msgspec.structs.fields(options):
        name, hint = getattr(options, field.name), _hint(field.type)
        if name is None or not isinstance(hint, Existing):
            continue
        path = root / name
        absent = [file for file in hint.holds if not (path / file).is_file()]
        if not path.exists():
            problems.append((field.name, f"{path} does not exist; {hint.fix}"))
        elif absent:
            problems.append((field.name, f"{path} has no {absent[0]}; {hint.fix}"))
    return problems


def check_sizes(**sizes: int | None) -> None:
    """Refuse sizes below 1."""
    for key, size in sizes.items():
        if size is not None and size < 1:
            raise OptionError(key, f"{size} lets no question through; it is at least 1")


def _fault(options: type[Options], given: Mapping[str, Any], error: msgspec.ValidationError) -> OptionError:
    """Find the invalid option and its fix; ``error`` names neither."""
    if isinstance(error.__cause__, OptionError):
        return error.__cause__
    fields = {field.name: field for field in msgspec.structs.fields(options)}
    for key, value in given.items():
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, 1)
            fix = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(fields)}"
            return OptionError(key, f"{options.runtime} has no option {key!r}; {fix}")
        if value is not None and (problem := _problem(value, fields[key].type)):
            return OptionError(key, problem)
    missing = next(key for key, field in fields.items() if field.required and given.get(key) is None)
    hint = _hint(fields[missing].type)
    return OptionError(
        missing, f"{missing!r} is missing, {options.runtime} needs it: {hint.words}; {hint.fix}"
    )


def _problem(value: Any, kind: Any) -> str:
    """Why a value does not have a type; empty where it has."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        hint, plain = _hint(kind), _plain(kind)
        if get_origin(plain) is Literal:
            return f"{value!r} is unknown; use one of {', '.join(get_args(plain))}"
        return f"{value!r} is not {hint.words}" + (f"; {hint.fix}" if hint.fix else "")
    return ""


def _hint(kind: Any) -> Hint:
    marks = [mark for mark in getattr(kind, "__metadata__", ()) if isinstance(mark, Hint)]
    return marks[0] if marks else Hint(_WORDS.get(_plain(kind), "of the right type"))


def _plain(kind: Any) -> Any:
    """A type without annotations and None."""
    while get_origin(kind) in (Annotated, Union, UnionType):
        kind = get_args(kind)[0]
    return kind
