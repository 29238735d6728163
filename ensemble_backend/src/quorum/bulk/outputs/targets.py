# SPDX-License-Identifier: Apache-2.0
"""Where a bulk job writes, and in which format: a file, or a folder of part files; local, or a URL."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from quorum.bulk.outputs.errors import OutputError

Format = Literal["csv", "jsonl", "parquet", "arrow"]
Kind = Literal["answers", "votes", "dead"]
"""What is written: the answers, every vote, and the rows that could not be read."""

_FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
_ALLOWED: dict[Kind, tuple[Format, ...]] = {
    "answers": ("csv", "jsonl", "parquet"),
    "votes": ("jsonl", "parquet", "arrow"),
    "dead": ("jsonl",),
}
_OPTIONS: dict[Kind, str] = {"answers": "--out", "votes": "--votes", "dead": "the dead letters"}
_OF_FOLDERS: dict[Kind, Format] = {"answers": "parquet", "votes": "parquet", "dead": "jsonl"}


@dataclass(frozen=True, slots=True)
class Target:
    """One output.

    Attributes:
        kind: What is written to it.
        name: Path or URL, without a slash at its end.
        format: How it is written.
        is_folder: Whether it is a folder of part files; else it is one file.
    """

    kind: Kind
    name: str
    format: Format
    is_folder: bool = False

    @property
    def option(self) -> str:
        """The option that names it, or what it is, for messages."""
        return _OPTIONS[self.kind]

    @property
    def is_url(self) -> bool:
        """Whether it lies in an object store."""
        return "://" in self.name

    @property
    def suffix(self) -> str:
        """Ending of its files."""
        ending = PurePosixPath(self.name).suffix
        return ending if _FORMATS.get(ending) == self.format else f".{self.format}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"name": self.name, "format": self.format, "is_folder": self.is_folder}


def target_of(kind: Kind, name: str) -> Target:
    """The target that a user names: ``answers.csv`` is a file, ``answers/`` a folder of part files.

    So is the name of an existing folder. The ending names the format; a folder without one gets Parquet.
    ``file://`` is taken off: such a name is local.

    Raises:
        OutputError: The format cannot be told, or is none of this kind; or it is ``./``, ``../`` or ``/``.
    """
    name = name.removeprefix("file://")
    is_folder = name.endswith("/") or ("://" not in name and Path(name).is_dir())
    if "://" not in name and Path(name).name in ("", ".."):
        raise OutputError(
            f"{_OPTIONS[kind]} {name}: has no name of its own; name a file, or a folder such as `answers/`"
        )
    name = name.rstrip("/")
    ending = PurePosixPath(name).suffix
    found = _FORMATS.get(ending) or (_OF_FOLDERS[kind] if is_folder else None)
    if found is None or found not in _ALLOWED[kind]:
        endings = ", ".join(end for end, fitting in _FORMATS.items() if fitting in _ALLOWED[kind])
        raise OutputError(
            f"{_OPTIONS[kind]} {name}: cannot tell the format from {ending!r}; use {endings}, or a folder, "
            "as in `answers/`"
        )
    return Target(kind, name, found, is_folder)


def dead_letters_of(answers: Target) -> Target:
    """The file for rows that cannot be read, next to the answers."""
    return Target("dead", f"{answers.name}.dead.jsonl", "jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What a job writes.

    Attributes:
        targets: At most one of each kind; at least answers or votes.
        escaped: Make CSV cells harmless, see :func:`quorum.safe_text.safe_cell`.
    """

    targets: tuple[Target, ...]
    escaped: bool = True

    def __post_init__(self) -> None:
        """Refuse, by OutputError, outputs that write to one place, or none."""
        if not any(target.kind != "dead" for target in self.targets):
            raise OutputError(
                "nothing to write: name --out FILE (CSV, JSONL or Parquet), --votes FILE, or both"
            )
        taken: dict[str, Target] = {}
        for target in self.targets:
            place = target.name if target.is_url else str(Path(target.name).resolve())
            if place in taken:
                raise OutputError(
                    f"{target.option} {target.name}: {taken[place].option} is written there; name another"
                )
            taken[place] = target

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {target.kind: target.to_json() for target in self.targets} | {"escaped": self.escaped}
