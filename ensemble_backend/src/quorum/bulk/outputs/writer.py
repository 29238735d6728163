# SPDX-License-Identifier: Apache-2.0
"""Write the outputs of a job: each part's files, and at the end those that are one file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from quorum.bulk.inputs.records import BadRow
from quorum.bulk.outputs.csv_answers import CsvAnswers
from quorum.bulk.outputs.dead_letters import DeadLetters
from quorum.bulk.outputs.destinations import destination_of, names_in, put, refusal
from quorum.bulk.outputs.errors import OutputError
from quorum.bulk.outputs.jsonl_answers import JsonlAnswers
from quorum.bulk.outputs.outcome import Outcome, PartFormat
from quorum.bulk.outputs.owned import Owned
from quorum.bulk.outputs.parquet_answers import ParquetAnswers
from quorum.bulk.outputs.targets import Kind, Outputs, Target
from quorum.bulk.outputs.votes_tables import VotesTables
from quorum.files import check_replaceable, sync_file, sync_folder
from quorum.tasks.catalogue import Catalogue
from quorum.votes import check_target


@dataclass(frozen=True, slots=True)
class Layout:
    """What the rows of outputs are made of.

    Attributes:
        columns: Columns of the input.
        attributes: What is asked.
        catalogue: Says which attributes a category has, and how gold is spelt.
    """

    columns: Sequence[str]
    attributes: Sequence[str]
    catalogue: Catalogue


class WrittenPart(NamedTuple):
    """What was written of a part.

    Attributes:
        waiting: Names of its files in the job's folder that wait to be joined.
        placed: Kinds of output folders that have a file of it.
    """

    waiting: list[str]
    placed: list[Kind]


def format_of(target: Target, layout: Layout, *, escaped: bool) -> PartFormat:
    """The format of a target.

    Raises:
        OutputError: A column of the input has the name of one that is added.
        VotesError: pyarrow is not installed.
    """
    if target.kind == "dead":
        return DeadLetters()
    if target.kind == "votes":
        check_target(f"votes{target.suffix}")
        return VotesTables(layout.catalogue)
    if target.format == "jsonl":
        return JsonlAnswers()
    if target.format == "csv":
        return CsvAnswers(layout.columns, layout.attributes, escaped=escaped)
    return ParquetAnswers(layout.columns, layout.attributes)


class Writer:
    """Writes the outputs of one job; ``folder`` is the job's own, for the parts of single files."""

    def __init__(self, outputs: Outputs, layout: Layout, folder: Path, owned: Owned, *, force: bool) -> None:
        """Raises as :func:`format_of` does, and OutputError for a URL that cannot be written."""
        self._folder, self._owned, self._force = folder, owned, force
        self._formats = [
            (target, format_of(target, layout, escaped=outputs.escaped)) for target in outputs.targets
        ]
        for target in outputs.targets:
            destination_of(target.name)

    @property
    def _singles(self) -> list[tuple[Target, PartFormat]]:
        return [(target, form) for target, form in self._formats if not target.is_folder]

    def check(self, *, begun: bool) -> None:
        """Refuse outputs that exist and are not of this job; nothing is written.

        Args:
            begun: Whether the job was begun before: then its folders may hold files.

        Raises:
            OSError: A place cannot be looked at.
            OutputError: Names the output and what to do.
        """
        for target, _ in self._formats:
            if target.is_folder:
                if not begun and (names := names_in(target.name)):
                    raise OutputError(
                        f"{target.option} {target.name}/ holds {names[0]!r} already; name another folder, or "
                        "move its files away. --force replaces files, not folders"
                    )
                continue
            if not target.is_url:
                _check_place(target)
            destination = destination_of(target.name)
            if self._force or not destination.exists():
                continue
            if not begun or not self._owned.has(target.name, destination.hash()):
                raise OutputError(refusal(target.option, target.name))

    def write_part(self, number: int, outcomes: Sequence[Outcome], bad: Sequence[BadRow]) -> WrittenPart:
        """Write the files of a part, over those of an earlier time.

        Returns:
            What was written; a part without a row for a target has no file there.

        Raises:
            OSError: One cannot be written.
            OutputError: A part file is there that this job did not write.
        """
        waiting, placed = [], []
        for target, form in self._formats:
            if target.is_folder:
                if self._put_part(target, form, number, outcomes, bad):
                    placed.append(target.kind)
                continue
            path = self._part(target, number)
            draft = path.with_name(f"draft-{path.name}")
            if form.write(draft, outcomes, bad):
                sync_file(draft)
                os.replace(draft, path)  # noqa: PTH105
                waiting.append(path.name)
            else:
                draft.unlink()
        sync_folder(self._folder)
        return WrittenPart(waiting, placed)

    def join(self, parts: Iterable[tuple[int, Sequence[str]]]) -> None:
        """Join the parts of each output that is one file, and put it in its place.

        Args:
            parts: Number of each part, in order, and its :attr:`WrittenPart.waiting`.

        Raises:
            OSError: An output cannot be written.
            OutputError: An output is there that this job did not write.
        """
        known = [(number, set(names)) for number, names in parts]
        for target, form in self._singles:
            paths = [self._part(target, number) for number, _ in known]
            paths = [path for path, (_, names) in zip(paths, known, strict=True) if path.name in names]
            if not paths and target.kind == "dead":
                continue
            destination = destination_of(target.name)
            with _writing(target.name):
                draft = destination.draft(self._folder, target.suffix)
                form.join(paths, draft)
                put(destination, draft, self._owned, force=self._force, option=target.option)

    def missing(self, *, has_bad: bool) -> list[str]:
        """Outputs in one file that are not there; dead letters are missed only where there are bad rows."""
        return [
            target.name
            for target, _ in self._singles
            if (target.kind != "dead" or has_bad) and not destination_of(target.name).exists()
        ]

    def missing_parts(self, placed: Mapping[int, Sequence[Kind]]) -> set[int]:
        """Parts that lack a file in an output folder, by their :attr:`WrittenPart.placed`."""
        lost: set[int] = set()
        for target, _ in self._formats:
            if target.is_folder:
                present = set(names_in(target.name))
                wanted = (number for number, kinds in placed.items() if target.kind in kinds)
                lost |= {number for number in wanted if _part_name(target, number) not in present}
        return lost

    def names(self, *, has_bad: bool) -> tuple[str, ...]:
        """Names of the outputs of a complete job."""
        return tuple(
            f"{target.name}/" if target.is_folder else target.name
            for target, _ in self._formats
            if target.kind != "dead" or has_bad
        )

    def _part(self, target: Target, number: int) -> Path:
        return self._folder / f"{number:06d}.{target.kind}{target.suffix}"

    def _put_part(
        self,
        target: Target,
        form: PartFormat,
        number: int,
        outcomes: Sequence[Outcome],
        bad: Sequence[BadRow],
    ) -> bool:
        """Whether there is a file of the part now: it has something of this kind."""
        destination = destination_of(f"{target.name}/{_part_name(target, number)}")
        with _writing(destination.name):
            if not target.is_url:
                Path(target.name).mkdir(parents=True, exist_ok=True)
            draft = destination.draft(self._folder, target.suffix)
            if is_written := form.write(draft, outcomes, bad):
                put(destination, draft, self._owned, option=target.option, in_folder=True)
            else:
                draft.unlink()
        return is_written


def _check_place(target: Target) -> None:
    path = Path(target.name).resolve()
    if not path.parent.is_dir():
        raise OutputError(
            f"{target.option} {target.name}: there is no such folder; make it, or name another file"
        )
    try:
        check_replaceable(path)
    except OSError as error:
        raise OutputError(f"{target.option} {target.name}: {error.strerror}; name a file") from error


@contextmanager
def _writing(name: str) -> Iterator[None]:
    """Name the output, and not its draft, in an OSError."""
    try:
        yield
    except OSError as error:
        error.filename = name
        raise


def _part_name(target: Target, number: int) -> str:
    return f"part-{number:06d}{target.suffix}"
