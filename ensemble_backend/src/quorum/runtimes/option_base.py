# SPDX-License-Identifier: Apache-2.0
"""Declare and check options of runtimes, with a fix in every error."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from quorum.extras import how_to_install
from quorum_contract.errors import QuorumError

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


class OptionError(QuorumError, ValueError):
    """A runtime cannot start with these options; ``key`` names the one at fault."""

    code = "OPTION_INVALID"

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True, slots=True)
class Hint:
    """Text on an option for messages: ``words`` for its valid values, and the ``fix``."""

    words: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Existing(Hint):
    """Marks an option that names an existing path; a folder must hold the files ``holds``."""

    words: str = "a path"
    holds: tuple[str, ...] = ()


Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 31), Hint("a whole number of at least 1")]
CountOrZero = Annotated[int, msgspec.Meta(ge=0, le=1 << 31), Hint("a whole number of at least 0")]
Gib = Annotated[float, msgspec.Meta(gt=0, le=1 << 20), Hint("an amount of memory", "it is more than 0")]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the options of all runtimes; values are checked against the types of the fields.

    ``served_by`` names the runtime's class as ``module:class``, imported on demand as its packages are heavy;
    the distribution's ``extra`` brings them; "": no extra does. ``refused`` holds options of other runtimes
    that users look for here, with the reason and the fix.
    """

    runtime: ClassVar[str]
    served_by: ClassVar[str]
    extra: ClassVar[str] = ""
    refused: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        """Refuse invalid values, also of options that are made or changed in code."""
        for field in msgspec.structs.fields(self):
            _checked(field.name, getattr(self, field.name), field.type)

    @property
    def packages(self) -> tuple[str, ...]:
        """Names by which it imports what only its runtime needs, as far as a look can tell without a GPU."""
        return ()

    @property
    def install(self) -> str:
        """How to get the packages that it lacks."""
        return f"run {how_to_install(self.extra)}" if self.extra else "install it"

    @property
    def isolated(self) -> bool:
        """Whether the runtime runs in a worker process: what can block, crash or eat memory must."""
        return False

    def missing_at_start(self, root: Path) -> list[tuple[str, str]]:
        """What only the machine that serves needs, and lacks: pairs of option and problem with its fix.

        ``root`` is the folder that relative paths start from.
        """
        return []

    @property
    def memory_limit_gib(self) -> float | None:
        """Memory that the worker process may have; None: no limit."""
        return None

    @property
    def llm(self) -> str:
        """The model that the options name; empty where there is none."""
        return str(getattr(self, "model", ""))

    @property
    def shared(self) -> bool:
        """Whether members on this LLM share it in memory, if their runtime can (``SHARED``)."""
        return True

    @property
    def adapters_at_once(self) -> bool:
        """Whether questions of several adapters can be answered side by side."""
        return True

    @property
    def adapter_by_attribute(self) -> Mapping[str, str]:
        """Attribute -> folder of the adapter that answers it; empty: :attr:`usual_adapter` answers all."""
        return {}

    @property
    def usual_adapter(self) -> str | None:
        """Folder of the adapter that answers all other attributes; None: the LLM without an adapter."""
        return None

    @property
    def adapters_used(self) -> tuple[str | None, ...]:
        """Each adapter that may answer, once, the usual one first; None: the LLM without one."""
        return tuple(dict.fromkeys([self.usual_adapter, *self.adapter_by_attribute.values()]))


class IsolatedOptions(Options, frozen=True, kw_only=True):
    """Options of runtimes that run an LLM in a worker process.

    Attributes:
        memory_limit_gib: Resident memory that the worker may have, with the processes that it starts; above
            it is killed, its questions abstain, and a new one starts. None: no limit.
    """

    memory_limit_gib: Gib | None = None

    @property
    def isolated(self) -> bool:
        """True: an LLM can block, crash and eat memory."""
        return True


SomeOptions = TypeVar("SomeOptions", bound=Options)


def convert(options: type[SomeOptions], given: Mapping[str, Any]) -> SomeOptions:
    """Check options and fill in defaults; see :func:`quorum.runtimes.options.read_options`."""
    fields = {field.name: field for field in msgspec.structs.fields(options)}
    values = {}
    for key, value in given.items():
        if key in options.refused:
            raise OptionError(key, options.refused[key])
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, 1)
            fix = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(fields)}"
            raise OptionError(key, f"{options.runtime} has no option {key!r}; {fix}")
        if value is not None:
            values[key] = _checked(key, value, fields[key].type)
    for key, field in fields.items():
        if field.required and key not in values:
            hint = _hint(field.type)
            raise OptionError(
                key, f"{key!r} is missing, {options.runtime} needs it: {hint.words}; {hint.fix}"
            )
    return options(**values)


def find_missing(options: Options, root: Path) -> list[tuple[str, str]]:
    """Find missing files and folders that the options name: pairs of option and problem with its fix."""
    problems = []
    for field in msgspec.structs.fields(options):
        value, hint = getattr(options, field.name), _hint(field.type)
        if value is None or not isinstance(hint, Existing):
            continue
        named = value.items() if isinstance(value, Mapping) else [(None, value)]
        for key, name in named:
            path = root / name
            absent = [file for file in hint.holds if not (path / file).is_file()]
            if not path.exists() or absent:
                lack = f"has no {absent[0]}" if path.exists() else "does not exist"
                option = field.name if key is None else f"{field.name}.{key}"
                problems.append((option, f"{path} {lack}; {hint.fix}"))
    return problems


def _checked(key: str, value: Any, kind: Any) -> Any:
    """A value as the type of its option; raises OptionError with the fix if it is no such value."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        hint, plain = _hint(kind), _plain(kind)
        if get_origin(plain) is Literal:
            problem = f"is unknown; use one of {', '.join(get_args(plain))}"
        else:
            problem = f"is not {hint.words}" + (f"; {hint.fix}" if hint.fix else "")
        raise OptionError(key, f"{value!r} {problem}") from error


def _hint(kind: Any) -> Hint:
    marks = [mark for part in (kind, *get_args(kind)) for mark in getattr(part, "__metadata__", ())]
    hints = [mark for mark in marks if isinstance(mark, Hint)]
    return hints[0] if hints else Hint(_WORDS.get(_plain(kind), "of the right type"))


def _plain(kind: Any) -> Any:
    """A type without annotations and None."""
    while get_origin(kind) in (Annotated, Union, UnionType):
        kind = get_args(kind)[0]
    return kind
