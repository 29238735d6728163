# SPDX-License-Identifier: Apache-2.0
"""Tune a causal LLM on rows with gold: a LoRA adapter (Hu et al., arXiv 2106.09685), or all weights.

The LLM learns the prompts that serving asks and the JSON that serving parses; the loss counts the answer's
tokens only. The result is scored on held-out rows by the runtime that serves it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from quorum.runtimes.base import RuntimeSettings
from quorum.runtimes.options import HfOptions
from quorum.runtimes.tuned_prompt import TunedPrompts, prompts_for
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.prompt import Style
from quorum.tune.adapter_rules import check_rank
from quorum.tune.asking import Asked, TaskScore, asked_of, score
from quorum.tune.base import Base, loading
from quorum.tune.card import Card, write_card
from quorum.tune.card_of_run import card_of_run
from quorum.tune.data import TrainingData, TrainingDataError
from quorum.tune.encoder import has_bfloat16
from quorum.tune.folder import reserved, whole_folder
from quorum.tune.loop import LoopOptions, Progress, Trained, check_seed, train
from quorum.tune.quiet import without_announcements
from quorum.tune.remarks import NEAR
from quorum.tune.split import split
from quorum.tune.threads import threads_of
from quorum.tune.tuned_on import read_tuned_on, write_tuned_on

if TYPE_CHECKING:
    from quorum.runtimes.chat import ChatTokenizer
    from quorum.tune.causal_rows import Example

CausalMethod = Literal["lora", "full"]
LEARNING_RATES: Mapping[CausalMethod, float] = {"lora": 2e-3, "full": 5e-5}


@dataclass(frozen=True, slots=True, kw_only=True)
class CausalOptions:
    """Settings of tuning an LLM, other than those of the loop.

    Attributes:
        method: An adapter (``lora``), or all weights (``full``).
        rank: Of the adapter; see :data:`quorum.tune.adapter_rules.RANKS`.
        alpha: The adapter's updates count ``alpha / rank``-fold.
        style: Of the prompts; the member that serves it has the same.
        chat: Whether to apply the chat template; None: if the tokenizer has one, as serving does.
        max_tokens: Longer examples are left out.
        balance: Whether labels are drawn equally often.
        epochs: Passes over the rows.
        learning_rate: The highest one; None: that of :data:`LEARNING_RATES`.
        batch: Rows per step.
        patience: Epochs without a lower loss on held-out rows after which training ends.
        checkpoint_every: Steps; 0: none.
        seed: Of the split, the adapter, and the order of rows.
        score_rows: Held-out rows that are asked about at the end; the loss is of all of them.
        device: As in :class:`quorum.runtimes.options.HfOptions`.
        threads: CPU threads; None: see :func:`quorum.tune.threads.threads_of`.
        force: Replace a folder that was tuned before.
    """

    method: CausalMethod = "lora"
    rank: int = 8
    alpha: int = 16
    style: Style = "bare"
    chat: bool | None = None
    max_tokens: int = 1024
    balance: bool = True
    epochs: int = 2
    learning_rate: float | None = None
    batch: int = 8
    patience: int = 2
    checkpoint_every: int = 50
    seed: int = 0
    score_rows: int = 200
    device: str = "auto"
    threads: int | None = None
    force: bool = False


def tune_causal(
    base: Base,
    data: TrainingData,
    path: Path,
    catalogue: Catalogue,
    out: Path,
    options: CausalOptions,
    progress: Progress | None = None,
) -> Card:
    """Tune an LLM, and write adapter or checkpoint, with a card, to ``out``.

    Attributes of one row are asked for together, as a request does. A run that was killed goes on from its
    last checkpoint when it is started again.

    Args:
        base: A causal LLM.
        data: Of one task, or of several that one model is to learn.
        path: Of the data, for messages and the card.
        catalogue: Of the deployment that will serve it.
        out: Folder to make.
        options: See there.
        progress: Called after each step.

    Raises:
        MergeError: A rank that not every runtime serves.
        BaseModelError: A file of the base is damaged, or an adapter cannot change its modules.
        TrainingDataError: Nothing to train on, or nothing to hold out.
        TrainingError: ``out`` holds something else, a checkpoint of another run is in the way, or the loss is
            no finite number.
        AskingError: Questions of the scoring were not answered.
        RuntimeConfigError: The result does not start in the runtime ``hf``.
    """
    check_seed(options.seed)
    if options.method == "lora":
        check_rank(options.rank, "--rank")
    with without_announcements(), reserved(out, force=options.force):
        return _tune(base, data, path, catalogue, out, options, progress)


def _tune(
    base: Base,
    data: TrainingData,
    path: Path,
    catalogue: Catalogue,
    out: Path,
    options: CausalOptions,
    progress: Progress | None,
) -> Card:
    from quorum.tune.causal_model import load_model, loss_on, save_model

    rows = _rows_of(data, path, catalogue, options, base)
    loop = _loop_options(options)
    model = load_model(base, options)
    trained = train(
        model,
        loss_on(model, rows.train, rows.padding),
        [example.length for example in rows.train],
        _held_out_score(model, rows, loop.batch),
        loop,
        out,
        _fingerprint(base, data, options, rows.prompts),
        progress,
        rows.weights,
    )
    # If this fails, the checkpoint of the last step stays: started again, nothing is trained again.
    with whole_folder(out) as folder:
        save_model(model, base.folder, folder, options)
        del model
        # What a base that was tuned before has learned is in these weights too.
        write_tuned_on(folder, data.question_hashes | read_tuned_on(base.folder))
        card = _card(base, data, path, catalogue, options, loop, rows, trained)
        # Before scoring: the runtime compares the prompts of the card with its own.
        write_card(card, folder)
        scores = _score(base, catalogue, folder, options, rows)
        card = replace(card, scores=scores_by_task(scores))
        write_card(card, folder)
    return card


def _loop_options(options: CausalOptions) -> LoopOptions:
    return LoopOptions(
        epochs=options.epochs,
        batch=options.batch,
        learning_rate=options.learning_rate or LEARNING_RATES[options.method],
        weight_decay=0.0 if options.method == "lora" else 0.01,
        patience=options.patience,
        checkpoint_every=options.checkpoint_every,
        bfloat16=options.method == "full" and has_bfloat16(options.device),
        seed=options.seed,
    )


class _Rows(NamedTuple):
    train: list[Example]
    weights: tuple[float, ...]
    held_out: list[Example]
    asked: list[Asked]
    prompts: TunedPrompts
    left_out: Mapping[str, int]
    padding: int


def _rows_of(
    data: TrainingData, path: Path, catalogue: Catalogue, options: CausalOptions, base: Base
) -> _Rows:
    from quorum.runtimes.chat import ChatTokenizer
    from quorum.tune.causal_rows import balanced, encode, sets_of

    with loading(base.folder / "tokenizer.json"):
        tokenizer = ChatTokenizer(str(base.folder), options.chat)
    end = _end_of(tokenizer, base)
    parts = split(data.rows, options.seed)
    train_on, held_out = (asked_of(part, data.tasks) for part in (parts.train, parts.held_out))
    examples = []
    for part in (train_on, held_out):
        encoded = [(asked, encode(tokenizer, end, catalogue, options.style, asked)) for asked in part]
        examples.append([pair for pair in encoded if pair[1].length <= options.max_tokens])
        if not examples[-1]:
            raise TrainingDataError(
                f"{path}: none of {len(part)} rows has up to {options.max_tokens} tokens with its prompt;"
                " raise --max-tokens"
            )
    fitting, held = examples
    asked = [pair[0] for pair in fitting]
    sets = sets_of([*asked, *(pair[0] for pair in held)])
    return _Rows(
        train=[pair[1] for pair in fitting],
        weights=balanced(catalogue, asked) if options.balance else (),
        held_out=[pair[1] for pair in held],
        asked=[pair[0] for pair in held],
        prompts=prompts_for(catalogue, options.style, tokenizer.applies_template, sets),
        left_out={
            f"longer than {options.max_tokens} tokens": len(train_on + held_out) - len(fitting + held),
            NEAR: len(parts.left_out),
        },
        padding=end,
    )


def _end_of(tokenizer: ChatTokenizer, base: Base) -> int:
    if tokenizer.end is None:
        raise TrainingDataError(
            f"{base.folder}: its tokenizer has no end-of-sequence token, so answers would never end; set"
            " eos_token in its tokenizer_config.json"
        )
    return tokenizer.end


def _held_out_score(model: Any, rows: _Rows, batch: int) -> Callable[[], float]:
    """The probability of an answer's token, a geometric mean: generating answers would take longer."""
    from quorum.tune.causal_model import loss_on

    loss = loss_on(model, rows.held_out, rows.padding)
    order = sorted(range(len(rows.held_out)), key=lambda row: rows.held_out[row].length)
    batches = [order[at : at + batch] for at in range(0, len(order), batch)]

    def measured() -> float:
        total = tokens = 0.0
        for part in batches:
            count = sum(len(rows.held_out[row].answer) for row in part)
            total, tokens = total + float(loss(part)) * count, tokens + count
        return math.exp(-total / tokens)

    return measured


def _score(
    base: Base, catalogue: Catalogue, out: Path, options: CausalOptions, rows: _Rows
) -> list[TaskScore]:
    asked = rows.asked[:: max(1, -(-len(rows.asked) // options.score_rows))]
    settings = hf_settings(
        base.folder, out, catalogue, options, max_new_tokens=max(len(one.answer) for one in rows.held_out)
    )
    return score(settings, asked)


def hf_settings(
    base: Path, tuned: Path | None, catalogue: Catalogue, options: CausalOptions, max_new_tokens: int
) -> RuntimeSettings[HfOptions]:
    """Settings that serve a tuned LLM by the runtime ``hf``.

    Args:
        base: Folder of its base.
        tuned: Folder of the adapter or checkpoint; None: the base alone.
        catalogue: Of the deployment.
        options: Style, chat, device and threads are of interest.
        max_new_tokens: Of the longest answer expected; twice as many are allowed.
    """
    is_adapter = tuned is not None and (tuned / "adapter_config.json").is_file()
    given = HfOptions(
        model=str((base if is_adapter or tuned is None else tuned).resolve()),
        lora=str(tuned.resolve()) if is_adapter and tuned else None,
        device=options.device,
        threads=threads_of(options.threads),
        max_new_tokens=2 * max_new_tokens,
        chat=options.chat,
    )
    name = (tuned or base).name
    return RuntimeSettings(name, Path("/"), given, catalogue=catalogue, style=options.style)


def scores_by_task(scores: Sequence[TaskScore]) -> dict[str, dict[str, float]]:
    """Figures as a card has them; those of guided decoding begin with ``guided_``."""
    found: dict[str, dict[str, float]] = {}
    for one in scores:
        prefix = "guided_" if one.guided else ""
        found.setdefault(one.task, {}).update({prefix + key: value for key, value in one.figures.items()})
    return found


def _fingerprint(base: Base, data: TrainingData, options: CausalOptions, prompts: TunedPrompts) -> str:
    """Of everything that the trained weights follow from."""
    other = ("device", "threads", "score_rows", "checkpoint_every", "force")
    settings = {key: value for key, value in asdict(options).items() if key not in other}
    content = [base.hash, data.data_hash, data.tasks, settings, msgspec.to_builtins(prompts)]
    return f"sha256:{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}"


def _card(
    base: Base,
    data: TrainingData,
    path: Path,
    catalogue: Catalogue,
    options: CausalOptions,
    loop: LoopOptions,
    rows: _Rows,
    trained: Trained,
) -> Card:
    kept = ["max_tokens", "balance"] + (["rank", "alpha"] if options.method == "lora" else [])
    hashes = catalogue.hashes
    return card_of_run(
        base,
        data,
        path,
        loop,
        trained,
        method=options.method,
        rows=len(rows.train),
        held_out_rows=len(rows.held_out),
        left_out=rows.left_out,
        settings={
            **{key: getattr(options, key) for key in kept},
            "held_out_token_probability": trained.best_score,
        },
        catalogue={task: hashes[task] for task in data.tasks if task in hashes},
        prompts=msgspec.to_builtins(rows.prompts),
    )
