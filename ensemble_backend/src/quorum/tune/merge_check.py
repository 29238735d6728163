# SPDX-License-Identifier: Apache-2.0
"""Check a merged adapter on each of its tasks: does it still answer in the task's form, and how well?

A merge fails without an error: the adapter is well-formed, and answers one task in the form of another. So
the share of answers that can be parsed is compared, before and after, task by task. Guided decoding makes
every answer parse and hides the loss of the form, not that of the score; both ways are measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from quorum.deployment.schema import Deployment
from quorum.records import Record
from quorum.runtimes.tuned_prompt import TunedPrompts, read_tuned_prompts
from quorum.tasks.catalogue import Catalogue
from quorum.tune.adapter_rules import MergeError, Method
from quorum.tune.asking import Asked, TaskScore, asked_of, score
from quorum.tune.card import CARD_FILE, Card, read_card, write_card
from quorum.tune.causal import CausalOptions, hf_settings, scores_by_task
from quorum.tune.data import read_gold

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
class MergeReport(Record):
    """A merged adapter.

    Attributes:
        out: Its folder.
        card: Its card.
        comparisons: By task and way of decoding; empty where nothing was checked.
        margin: See :class:`MergeOptions`.
        passed: Whether no task's parse share fell by more than the margin.
    """

    out: Path
    card: Card
    comparisons: tuple[Comparison, ...]
    margin: float
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeOptions:
    """Settings of a merge and of its check.

    Attributes:
        method: One of :data:`quorum.tune.adapter_rules.METHODS`.
        weights: One for each adapter; (): equal shares.
        density: Share of the weights that stays, for methods that drop some; None: .5.
        seed: Of the weights that ``dare_*`` drop, and of the rows that are asked about.
        margin: A parse share may fall by this much, as a share in [0, 1].
        rows: Drawn of each file, at most.
        device: As in :class:`quorum.runtimes.options.HfOptions`.
        threads: CPU threads; None: see :func:`quorum.tune.threads.threads_of`.
    """

    method: Method
    weights: tuple[float, ...] = ()
    density: float | None = None
    seed: int = 0
    margin: float = MARGIN
    rows: int = CHECK_ROWS
    device: str = "auto"
    threads: int | None = None


def merge_adapters(
    adapters: Sequence[Path],
    base: Path,
    out: Path,
    options: MergeOptions,
    checks: Mapping[str, Path] | None = None,
    deployment: Deployment | None = None,
) -> MergeReport:
    """Merge LoRA adapters, then compare parse share and score on each task with the best single adapter.

    The folder is written either way; where a check fails, its card says so.

    Args:
        adapters: Folders of two LoRA adapters or more, as ``quorum tune`` or PEFT writes them.
        base: Folder of the model that all of them were tuned on.
        out: Folder to make.
        options: See there.
        checks: Task -> listings with gold that no adapter was tuned on; none: nothing is checked.
        deployment: Its catalogue says what answers are allowed; None: every attribute is open.

    Raises:
        BuildError: A folder is no LoRA adapter, or not one of this base.
        MergeError: PEFT would merge them wrongly, ``out`` exists, or a setting does not fit.
        CardError: An adapter's card cannot be read.
        BaseModelError: The base cannot be used.
        TrainingDataError: Rows of ``checks`` cannot be asked about.
        ListingsError: A file of ``checks`` cannot be read.
        RuntimeConfigError: An adapter does not start in the runtime ``hf``.
        AskingError: It fails to answer; the card says that the check did not end.
        TrainingError: A seed that PyTorch does not take.
    """
    from quorum.tune.merge import merge

    if not 0.0 <= options.margin <= 1.0:
        raise MergeError(f"--margin {options.margin:g}: give a share from 0 to 1")
    catalogue = deployment.catalogue() if deployment else Catalogue({})
    asked = {
        task: _read(path, task, catalogue, options.rows, options.seed)
        for task, path in (checks or {}).items()
    }
    settings = (options.method, options.weights, options.density, options.seed)
    # Until the check has ended: it may be interrupted, and the folder must not look as if it had passed.
    card = merge(adapters, base, out, *settings, (_unchecked(asked),) if asked else ())
    serving = _as_tuned(CausalOptions(device=options.device, threads=options.threads), out)
    comparisons: list[Comparison] = []
    found: list[TaskScore] = []
    for task, questions in asked.items():
        name, before = _best(adapters, base, task, questions, catalogue, serving)
        after = _scores(base, out, questions, catalogue, serving)
        found += after
        for old, new in zip(before, after, strict=True):
            comparisons.append(_compare(name, old, new, options.margin))
    lost = tuple(one for one in comparisons if one.lost)
    card = replace(
        card, scores=scores_by_task(found), remarks=tuple(_remark(one, options.margin) for one in lost)
    )
    write_card(card, out)
    return MergeReport(out, card, tuple(comparisons), options.margin, passed=not lost)


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
    from quorum.tune.causal_rows import answer_of

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


def _unchecked(tasks: Iterable[str]) -> str:
    return (
        f"WARNING: not checked yet on {', '.join(tasks)}, as the check did not end; remove the folder and"
        " merge again with --check"
    )


def _remark(one: Comparison, margin: float) -> str:
    way, name = "guided" if one.guided else "not guided", Path(one.adapter).name
    return (
        f"WARNING: the merge lost the task {one.task!r}: {one.parse_after:.1%} of answers parse ({way}),"
        f" {one.parse_before:.1%} by {name} alone, more than the margin of {margin:.1%} less."
        " Serve one adapter per task, or tune one on all tasks with --mix"
    )
