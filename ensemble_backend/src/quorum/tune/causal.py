# SPDX-License-Identifier: Apache-2.0
"""Tune a causal LLM on rows with gold: a LoRA adapter (Hu et al., arXiv 2106.09685), or all weights.

The LLM learns the prompts that serving asks and the JSON that serving parses; the loss counts the answer's
tokens only. The result is scored on held-out rows by the runtime that serves it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from quorum.records import Record
from quorum.runtimes.base import RuntimeSettings
from quorum.runtimes.options import HfOptions
from quorum.runtimes.tuned_prompt import TunedPrompts, prompts_for
from quorum.tasks.catalogue import Catalogue
from quorum.tasks.prompt import Style
from quorum.tune.adapter_rules import MODULES, check_rank
from quorum.tune.asking import Asked, TaskScore, asked_of, score
from quorum.tune.base import Base
from quorum.tune.card import CARD_FILE, Card, library_versions, read_card, write_card
from quorum.tune.data import TrainingData, TrainingDataError
from quorum.tune.loop import LoopOptions, Progress, Trained, TrainingError, remove_checkpoint, train
from quorum.tune.split import split

if TYPE_CHECKING:
    import torch

    from quorum.runtimes.chat import ChatTokenizer
    from quorum.tune.causal_rows import Example

CausalMethod = Literal["lora", "full"]
LEARNING_RATES: Mapping[CausalMethod, float] = {"lora": 2e-3, "full": 5e-5}
_IGNORED = -100


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
        score_rows: Held-out rows that are asked about at the end; the loss is of all of them.
        device: As in :class:`quorum.runtimes.options.HfOptions`.
        threads: CPU threads.
    """

    method: CausalMethod = "lora"
    rank: int = 8
    alpha: int = 16
    style: Style = "bare"
    chat: bool | None = None
    max_tokens: int = 1024
    balance: bool = True
    score_rows: int = 200
    device: str = "auto"
    threads: int = 1


@dataclass(frozen=True, slots=True)
class TunedLlm(Record):
    """A finished run.

    Attributes:
        out: Folder of the adapter or checkpoint.
        card: Its card.
        scores: On held-out rows, not guided and guided.
        resumed_at: The step of an interrupted run that this one went on from; 0: none.
    """

    out: Path
    card: Card
    scores: tuple[TaskScore, ...]
    resumed_at: int = 0


def tune_causal(
    base: Base,
    data: Sequence[TrainingData],
    catalogue: Catalogue,
    out: Path,
    options: CausalOptions,
    loop: LoopOptions,
    progress: Progress | None = None,
    names: Sequence[str] = (),
) -> TunedLlm:
    """Tune an LLM, and write adapter or checkpoint, with a card, to ``out``.

    A run that was killed goes on from its last checkpoint when it is started again.

    Args:
        base: A causal LLM.
        data: Of one task, or of several that one model is to learn.
        catalogue: Of the deployment that will serve it.
        out: Folder to make.
        options: See there.
        loop: Its ``seed`` also draws the held-out rows.
        progress: Called after each step.
        names: Of the files, for the card.

    Raises:
        MergeError: A rank that not every runtime serves.
        TrainingDataError: Nothing to train on, or nothing to hold out.
        TrainingError: ``out`` is complete already, a checkpoint of another run is in the way, or the loss is
            no finite number.
        RuntimeConfigError: The result does not start in the runtime ``hf``.
    """
    if options.method == "lora":
        check_rank(options.rank, "--rank")
    if (out / CARD_FILE).is_file() and read_card(out).scores:
        raise TrainingError(f"{out} has a tuned model already; name another folder, or remove it")
    rows = _rows_of(data, catalogue, options, loop.seed, base)
    model = _load(base, options)
    out.mkdir(parents=True, exist_ok=True)
    trained = train(
        model,
        _loss_of(model, rows.train, rows.padding),
        [example.length for example in rows.train],
        _held_out_score(model, rows, loop.batch),
        loop,
        out,
        _fingerprint(base, data, options, loop, rows.prompts),
        progress,
        rows.weights,
    )
    _save(model, rows.tokenizer_folder, out, options)
    del model
    card = _card(base, data, catalogue, options, loop, rows, trained, names)
    # Before scoring: the runtime compares the prompts of the card with its own.
    write_card(card, out)
    scores = tuple(_score(base, catalogue, out, options, rows))
    card = replace(card, scores=scores_by_task(scores))
    write_card(card, out)
    remove_checkpoint(out)
    return TunedLlm(out, card, scores, trained.resumed_at)


class _Rows(NamedTuple):
    train: list[Example]
    weights: tuple[float, ...]
    held_out: list[Example]
    asked: list[Asked]
    prompts: TunedPrompts
    left_out: int
    padding: int
    tokenizer_folder: Path


def _rows_of(
    data: Sequence[TrainingData], catalogue: Catalogue, options: CausalOptions, seed: int, base: Base
) -> _Rows:
    from quorum.runtimes.chat import ChatTokenizer
    from quorum.tune.causal_rows import balanced, encode, sets_of

    tokenizer = ChatTokenizer(str(base.folder), options.chat)
    end = _end_of(tokenizer, base)
    train_on, held_out = list[Asked](), list[Asked]()
    for one in data:
        parts = split(one.rows, seed)
        train_on += asked_of(parts.train, one.tasks)
        held_out += asked_of(parts.held_out, one.tasks)
    examples = []
    for part in (train_on, held_out):
        encoded = [(asked, encode(tokenizer, end, catalogue, options.style, asked)) for asked in part]
        examples.append([pair for pair in encoded if pair[1].length <= options.max_tokens])
        if not examples[-1]:
            raise TrainingDataError(
                f"none of {len(part)} rows has up to {options.max_tokens} tokens; raise --max-tokens"
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
        left_out=len(train_on) + len(held_out) - len(fitting) - len(held),
        padding=end,
        tokenizer_folder=base.folder,
    )


def _end_of(tokenizer: ChatTokenizer, base: Base) -> int:
    if tokenizer.end is None:
        raise TrainingDataError(
            f"{base.folder}: its tokenizer has no end-of-sequence token, so answers would never end; set"
            " eos_token in its tokenizer_config.json"
        )
    return tokenizer.end


def _load(base: Base, options: CausalOptions) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(options.threads)
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    # The frozen base of an adapter is only read: half the memory, and on CPUs with bfloat16 units faster.
    dtype = torch.bfloat16 if options.method == "lora" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(base.folder, local_files_only=True, dtype=dtype).to(device)
    model.config.use_cache = False
    if options.method == "full":
        return model
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    adapter = LoraConfig(
        task_type="CAUSAL_LM", r=options.rank, lora_alpha=options.alpha, target_modules=list(MODULES)
    )
    return get_peft_model(model, adapter)


def _loss_of(
    model: Any, examples: Sequence[Example], padding: int
) -> Callable[[Sequence[int]], torch.Tensor]:
    import torch

    device = next(model.parameters()).device

    def loss(rows: Sequence[int]) -> torch.Tensor:
        batch = [examples[row] for row in rows]
        width = max(example.length for example in batch)
        answer = max(len(example.answer) for example in batch)
        tokens = torch.full((len(batch), width), padding)
        attended = torch.zeros((len(batch), width), dtype=torch.long)
        labels = torch.full((len(batch), answer), _IGNORED)
        # Padded on the left: answers end in one column, and logits are needed of the last columns only.
        for place, (prompt, wanted) in enumerate(batch):
            tokens[place, width - len(prompt) - len(wanted) :] = torch.tensor([*prompt, *wanted])
            attended[place, width - len(prompt) - len(wanted) :] = 1
            labels[place, answer - len(wanted) :] = torch.tensor(wanted)
        positions = (attended.cumsum(1) - 1).clamp(min=0)
        logits = model(
            input_ids=tokens.to(device),
            attention_mask=attended.to(device),
            position_ids=positions.to(device),
            logits_to_keep=answer + 1,
        ).logits[:, :-1]
        return torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), labels.to(device).flatten(), ignore_index=_IGNORED
        )

    return loss


def _held_out_score(model: Any, rows: _Rows, batch: int) -> Callable[[], float]:
    """Minus the loss per answer token: generating answers each time would take longer than training."""
    loss = _loss_of(model, rows.held_out, rows.padding)
    order = sorted(range(len(rows.held_out)), key=lambda row: rows.held_out[row].length)
    batches = [order[at : at + batch] for at in range(0, len(order), batch)]

    def measured() -> float:
        total = tokens = 0.0
        for part in batches:
            count = sum(len(rows.held_out[row].answer) for row in part)
            total, tokens = total + float(loss(part)) * count, tokens + count
        return -total / tokens

    return measured


def _save(model: Any, tokenizer_folder: Path, out: Path, options: CausalOptions) -> None:
    import torch

    if options.method == "lora":
        model.save_pretrained(out)
        # PEFT's is a form to fill in; ours is the card.
        (out / "README.md").unlink(missing_ok=True)
        return
    model.to(torch.bfloat16).save_pretrained(out)
    for pattern in ("tokenizer*", "special_tokens_map.json", "vocab.json", "merges.txt", "chat_template*"):
        for file in tokenizer_folder.glob(pattern):
            shutil.copy(file, out / file.name)


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
        threads=options.threads,
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


def _fingerprint(
    base: Base,
    data: Sequence[TrainingData],
    options: CausalOptions,
    loop: LoopOptions,
    prompts: TunedPrompts,
) -> str:
    # These change speed and figures, not the weights.
    settings = {k: v for k, v in asdict(options).items() if k not in ("device", "threads", "score_rows")}
    parts = [base.hash, [one.data_hash for one in data], settings, asdict(loop)]
    text = json.dumps([*parts, msgspec.to_builtins(prompts)], sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _card(
    base: Base,
    data: Sequence[TrainingData],
    catalogue: Catalogue,
    options: CausalOptions,
    loop: LoopOptions,
    rows: _Rows,
    trained: Trained,
    names: Sequence[str],
) -> Card:
    tasks = tuple(dict.fromkeys(task for one in data for task in one.tasks))
    hashes = catalogue.hashes
    digest = hashlib.sha256("".join(one.data_hash for one in data).encode()).hexdigest()
    return Card(
        tasks=tasks,
        method=options.method,
        architecture="causal",
        base=base.folder.name,
        base_hash=base.hash,
        base_licence=base.licence,
        source="votes" if any(one.source == "votes" for one in data) else "gold",
        data=", ".join(names),
        data_hash=data[0].data_hash if len(data) == 1 else f"sha256:{digest}",
        rows=len(rows.train),
        held_out_rows=len(rows.held_out),
        left_out=rows.left_out + sum(one.left_out for one in data),
        seed=loop.seed,
        epochs=loop.epochs,
        steps=trained.steps,
        best_step=trained.best_step,
        settings={**asdict(options), **asdict(loop), "held_out_loss": -trained.best_score},
        catalogue={task: hashes[task] for task in tasks if task in hashes},
        prompts=msgspec.to_builtins(rows.prompts),
        seconds=trained.seconds,
        libraries=library_versions(),
    )
