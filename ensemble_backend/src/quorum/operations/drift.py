# SPDX-License-Identifier: Apache-2.0
"""Compare a day's votes with those of before."""

from __future__ import annotations

from pathlib import Path

from quorum.bulk.callbacks import Note, ignore
from quorum.decision import weights as weights_file
from quorum.decision.answer_kinds import AnswerKinds, recorded_kinds
from quorum.decision.catalogue_change import named
from quorum.evaluation.drift import Drift, DriftError
from quorum.evaluation.drift import drift as compare_day
from quorum.evaluation.drift_page import drift_html
from quorum.files import write_atomic
from quorum.learning.by_kind import present_kinds
from quorum.learning.online import load_state, state_path
from quorum.operations.pages import page_path
from quorum.review.spellings import spelling_remarks
from quorum.votes import VotesTable, read_votes
from quorum.votes.exploded import exploded
from quorum.votes.readable import readable


def drift(
    weights: str | Path,
    votes: str | Path,
    *,
    alarm: float = 0.01,
    report: str | Path | None = None,
    note: Note = ignore,
) -> Drift:
    """Name members that do not vote as they did: swapped, broken, or asked other things.

    Args:
        weights: Weights with their state in a file of their folder.
        votes: A day's votes, in any format, that the weights have not seen.
        alarm: How often a day without a change may have a finding, at most.
        report: HTML file to write as well; None: none.
        note: Takes a remark on spellings of one answer that count as different ones.

    Raises:
        WeightsError, VotesError: The weights, or the votes, cannot be read.
        DriftError: The votes cannot be compared.
        ReportError: The report needs a library that is not installed.
        OSError: The report cannot be written there.
    """
    page = page_path(report)
    loaded = weights_file.load(Path(weights))
    table = read_votes(votes).of_members(loaded.members)
    kinds = recorded_kinds(loaded.settings)
    day = exploded(table, kinds)
    if texts := texts_in(table, kinds):
        note(f"{named(texts)}: whether members write other texts than before is not compared")
    if len(table) and not len(day):
        raise DriftError(f"{votes}: written texts alone, or nothing named; there are no votes to compare")
    result = compare_day(load_state(state_path(weights)), day, weights=loaded, alarm=alarm)
    for remark in (*spelling_remarks(table, votes), *readable(table, kinds)[1]):
        note(remark)
    if page:
        write_atomic(page, drift_html(result, title=f"Do members vote as they did? {Path(votes).name}"))
    return result


def texts_in(table: VotesTable, kinds: AnswerKinds) -> list[str]:
    """The attributes of a table that are answered by written texts."""
    return sorted(name for name, kind in present_kinds(table, kinds).items() if kind == "text")
