# SPDX-License-Identifier: Apache-2.0
"""Check a merged adapter on each of its tasks: does it still answer in the task's form, and how well?

A merge fails without an error: the adapter is well-formed, and answers one task in the form of another. So
the share of answers that can be parsed is compared, before and after, task by task. Guided decoding makes
every answer parse and hides the loss of the form, not that of the score; both ways are measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from quorum.records import Record
from quorum.runtimes.tuned_prompt import TunedPrompts, read_tuned_prompts
from quorum.tasks.catalogue import Catalogue
from quorum.tune.adapter_rules import MergeError, Method
from quorum.tune.asking import Asked, TaskScore, asked_of, score
from quorum.tune.card import CARD_FILE, Card, read_card, write_card
from quorum.tune.causal import CausalOptions, hf_settings, scores_by_task
from quorum.tune.causal_rows import answer_of
from quorum.tune.data import read_gold
from quorum.tune.merge import merge

MARGIN = 0.05
CHECK_ROWS = 100
_CHARS_PER_TOKEN = 2


@dataclass(frozen=True, slots=True)
class Comparison(Record):
    """One task before and after a merge, guided or not.

    Attributes:
        task: The attribute.
        guided: Whether decoding was guided.
        rows: Asked about.
        adapter: The single adapter that is best at the task.
        metric: What the scores are.
        parse_before: Share of that adapter's answers that can be parsed, in [0, 1].
        parse_after: Of the merged adapter's.
        score_before: In [0, 1].
        score_after: In [0, 1].
        lost: Whether the parse share fell by more than the margin.
    """

    task: str
    guided: bool
    rows: int
    adapter: str
    metric: str
    parse_before: float
    parse_after: float
    score_before: float
    score_after: float
    lost: bool


@dataclass(frozen=True, slots=True)
class Merge(Record):
    """A merged adapter.

    Attributes:
        out: Its folder.
        card: Its card.
        comparisons: By task and way of decoding; empty where nothing was checked.
        margin: See :func:`merge_and_check`.
        passed: Whether no task's parse share fell by more than the margin.
    """

    out: Path
    card: Card
    comparisons: tuple[Comparison, ...]
    margin: float
    passed: bool


def merge_and_check(
    adapters: Sequence[Path],
    base: Path,
    out: Path,
    method: Method,
    checks: Mapping[str, Path],
    catalogue: Catalogue,
    weights: Sequence[float] = (),
    density: float | None = None,
    seed: int = 0,
    margin: float = MARGIN,
    rows: int = CHECK_ROWS,
    options: CausalOptions | None = None,
) -> Merge:
    """Merge adapters, then compare parse share and score on each task with the best single adapter.

    The folder is written either way; where a check fails, its card says so.

    Args:
        adapters: See :func:`quorum.tune.merge.merge`.
        base: See there.
        out: See there.
        method: See there.
        checks: Task -> listings with gold that no adapter was trained on.
        catalogue: Of the deployment.
        weights: See there.
        density: See there.
        seed: See there; also draws the rows.
        margin: A parse share may fall by this much, as a share in [0, 1].
        rows: Drawn of each file, at most.
        options: Device and threads are of interest; style and chat where the adapters have no cards.

    Raises:
        MergeError: See :func:`quorum.tune.merge.merge`; or a margin outside [0, 1].
        TrainingDataError, ListingsError: A file of ``checks`` cannot be used; nothing is merged then.
        RuntimeConfigError: An adapter does not start in the runtime ``hf``.
    """
    if not 0.0 <= margin <= 1.0:
        raise MergeError(f"--margin {margin:g}: give a share from 0 to 1")
    asked = {task: _read(path, task, catalogue, rows, seed) for task, path in checks.items()}
    card = merge(adapters, base, out, method, weights, density, seed)
    options = _as_tuned(options or CausalOptions(), out)
    comparisons: list[Comparison] = []
    found: list[TaskScore] = []
    for task, questions in asked.items():
        before = _best(adapters, base, task, questions, catalogue, options)
        after = _scores(base, out, questions, catalogue, options)
        found += after
        for old, new in zip(before[1], after, strict=True):
            comparisons.append(_compare(before[0], old, new, margin))
    lost = [one for one in comparisons if one.lost]
    card = replace(card, scores=scores_by_task(found), remarks=tuple(_remark(one, margin) for one in lost))
    write_card(card, out)
    return Merge(out, card, tuple(comparisons), margin, passed=not lost)


def _read(path: Path, task: str, catalogue: Catalogue, rows: int, seed: int) -> list[Asked]:
    data = read_gold(path, [task], catalogue)
    if len(data.rows) > rows:
        data = read_gold(path, [task], catalogue, rows, seed)
    return asked_of(data.rows, data.tasks)


def _as_tuned(options: CausalOptions, folder: Path) -> CausalOptions:
    """The options with style and chat template of the adapters' training."""
    tuned: TunedPrompts | None = read_tuned_prompts(folder)
    return replace(options, style=tuned.style, chat=tuned.chat) if tuned else options


def _best(
    adapters: Sequence[Path],
    base: Path,
    task: str,
    asked: Sequence[Asked],
    catalogue: Catalogue,
    options: CausalOptions,
) -> tuple[str, list[TaskScore]]:
    """Name and scores of the single adapter with the highest parse share, then score, when not guided.

    Only those whose card names the task are asked, or all where no card does.
    """
    named = [path for path in adapters if (path / CARD_FILE).is_file() and task in read_card(path).tasks]
    scores = {
        str(path): _scores(base, path, asked, catalogue, options) for path in dict.fromkeys(named or adapters)
    }
    best = max(scores, key=lambda path: (scores[path][0].parse_share, scores[path][0].score))
    return best, scores[best]


def _scores(
    base: Path, adapter: Path, asked: Sequence[Asked], catalogue: Catalogue, options: CausalOptions
) -> list[TaskScore]:
    """Not guided, and guided."""
    longest = max(len(answer_of(catalogue, one).encode()) for one in asked)
    settings = hf_settings(base, adapter, catalogue, options, 8 + longest // _CHARS_PER_TOKEN)
    return score(settings, asked)


def _compare(adapter: str, before: TaskScore, after: TaskScore, margin: float) -> Comparison:
    return Comparison(
        task=after.task,
        guided=after.guided,
        rows=after.rows,
        adapter=adapter,
        metric=after.metric,
        parse_before=before.parse_share,
        parse_after=after.parse_share,
        score_before=before.score,
        score_after=after.score,
        # Shares of a few rows: .95 - .9 must not exceed .05 by rounding.
        lost=before.parse_share - after.parse_share > margin + 1e-9,
    )


def _remark(one: Comparison, margin: float) -> str:
    way = "guided" if one.guided else "not guided"
    return (
        f"WARNING: the merge lost the task {one.task!r}: {one.parse_after:.1%} of answers parse ({way}),"
        f" {one.parse_before:.1%} by {one.adapter} alone, more than the margin of {margin:.1%} less."
        " Serve one adapter per task, or tune one on all tasks with --mix"
    )
