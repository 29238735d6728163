# SPDX-License-Identifier: Apache-2.0
"""Train the three demo LLMs from scratch on synthetic listings, on one CPU core in minutes.

``python examples/demo/train.py [--model NAME] [--seconds N] [--out DIR]`` writes Hugging Face checkpoints to
``DIR/NAME``. Needs the build environment (torch, transformers). Weight matrices are trained by Muon, all
other parameters by AdamW; the loss counts answer tokens only. The seed fixes model and data; the number of
steps in the given seconds depends on the machine, so a rerun gives a similar model, not an equal one.
``quorum build`` then converts a checkpoint for the server.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from demo_format import answer_json, bare_prompt
from listings import Listing, Mix, listings
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)
from vocabulary import ATTRIBUTES, HERE

END = "<|endoftext|>"
BATCH_TOKENS = 1536
PACK = 12
"""Number of batches whose listings are sorted by length together, to need little padding."""
MUON_RATE = 0.007
ADAMW_RATE = 4e-3
CONSTANT_SHARE = 0.3
EASY_SHARE = 0.15
OUT_OF_FOCUS = 0.45
RAMP_SHARE = 0.25
SEPARATE_SPACES = r"n/a|age_group|[^\s\p{L}\p{N}]+|\p{L}+|\p{N}|\s+"
ATTACHED_SPACES = r"n/a|age_group|[^\s\p{L}\p{N}]+| ?\p{L}+|\p{N}|\s+"


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """Architecture and training data of one demo model."""

    family: type[LlamaConfig] | type[Qwen2Config] | type[Qwen3Config]
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    pieces: str
    seconds: float
    seed: int
    mix: Mix
    focus: tuple[str, ...]
    """Attributes that it specialises in; it learns from a share OUT_OF_FOCUS of the answers to the others."""
    about: str


RECIPES: dict[str, Recipe] = {
    "demo-llama": Recipe(
        LlamaConfig,
        hidden=192,
        layers=4,
        heads=6,
        kv_heads=2,
        vocabulary=1536,
        pieces=SEPARATE_SPACES,
        seconds=400,
        seed=11,
        mix=Mix(fresh_brand=0.7, typo=0.02, hint=0.25, rich=0.2, synonym=0.4),
        focus=("brand", "size"),
        about="mostly clean text, very many brands; specialises in brand and size",
    ),
    "demo-qwen2": Recipe(
        Qwen2Config,
        hidden=160,
        layers=4,
        heads=5,
        kv_heads=5,
        vocabulary=2048,
        pieces=ATTACHED_SPACES,
        seconds=360,
        seed=22,
        mix=Mix(known_brands=60, fresh_brand=0.25, typo=0.35, hint=0.15, rich=0.3, synonym=0.65),
        focus=("color", "material"),
        about="much misspelled text, many synonyms, few brands; specialises in color and material",
    ),
    "demo-qwen3": Recipe(
        Qwen3Config,
        hidden=128,
        layers=6,
        heads=4,
        kv_heads=2,
        vocabulary=1024,
        pieces=ATTACHED_SPACES,
        seconds=400,
        seed=33,
        mix=Mix(fresh_brand=0.5, typo=0.04, hint=0.4, rich=0.8, audience=0.9, material=0.85, synonym=0.45),
        focus=("gender", "age_group"),
        about="rich audience and material phrases, many misleading words; specialises in gender and age",
    ),
}


def train_tokenizer(recipe: Recipe) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer on the model's own mix of prompts and answers."""
    rng = random.Random(recipe.seed)
    stream = listings(f"tokenizer {recipe.seed}", recipe.mix)
    texts = (e.prompt + e.answer for e in (_example(next(stream), rng) for _ in range(8000)))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(recipe.pieces), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)


def new_model(recipe: Recipe, vocabulary: int) -> PreTrainedModel:
    """Make a randomly initialised model of the recipe's family."""
    torch.manual_seed(recipe.seed)
    config = recipe.family(
        vocab_size=vocabulary,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.hidden * 3,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        head_dim=recipe.hidden // recipe.heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    return model


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """One training listing: the answer follows the prompt; its ``silent`` spans are left out of the loss."""

    prompt: str
    answer: str
    silent: tuple[tuple[int, int], ...]

    def labels(self, tokenizer: Tokenizer) -> list[int]:
        """Token ids of the answer, -100 where a token touches a silent span."""
        encoded = tokenizer.encode(self.answer)
        return [
            -100 if any(start < until and since < end for since, until in self.silent) else token
            for token, (start, end) in zip(encoded.ids, encoded.offsets, strict=True)
        ]


def _example(listing: Listing, rng: random.Random, focus: Sequence[str] = ATTRIBUTES) -> Example:
    """A prompt for a random subset of the attributes in random order, and its answer."""
    asked = rng.sample(ATTRIBUTES, rng.choice((1, 2, 3, 4, 5, 6, 6, 6)))
    answer = answer_json(asked, listing.gold)
    silent = []
    for i, name in enumerate(asked):
        if name not in focus and rng.random() > OUT_OF_FOCUS:
            # The value lies between its key and the end of the answer's first i + 1 members.
            end = len(answer_json(asked[: i + 1], listing.gold)) - 2
            silent.append((answer.index(f'"{name}":"') + len(name) + 4, end))
    return Example(bare_prompt(asked, listing.category, listing.title), answer, tuple(silent))


@dataclasses.dataclass(slots=True)
class Progress:
    """The share of the training that is done; the data grow harder with it."""

    share: float = 0.0

    @property
    def difficulty(self) -> float:
        """Factor on noise and misleading words, in [0, 1]: training begins with plain text."""
        return min(1.0, max(0.0, (self.share - EASY_SHARE) / RAMP_SHARE))


def batches(
    recipe: Recipe, tokenizer: Tokenizer, end: int, progress: Progress
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless training batches.

    Yields:
        Token ids and labels, both int64 [rows, tokens]; a label is -100 where the token belongs to the prompt
        or is padding. Rows times tokens is at most 1536.
    """
    rng = random.Random(recipe.seed)
    for pack in itertools.count():
        stream = listings(f"training {recipe.seed} {pack}", recipe.mix.eased(progress.difficulty))
        examples = [_example(next(stream), rng, recipe.focus) for _ in range(PACK * BATCH_TOKENS // 64)]
        rows = []
        for example in examples:
            asked = tokenizer.encode(example.prompt).ids
            answered = [*tokenizer.encode(example.answer).ids, end]
            rows.append((asked + answered, [-100] * len(asked) + [*example.labels(tokenizer), end]))
        rows.sort(key=lambda row: len(row[0]))
        packed = []
        while rows:
            count = max(1, BATCH_TOKENS // len(rows[-1][0]))
            packed.append(rows[-count:])
            del rows[-count:]
        rng.shuffle(packed)
        for batch in packed:
            width = max(len(ids) for ids, _ in batch)
            yield (
                torch.tensor([ids + [end] * (width - len(ids)) for ids, _ in batch]),
                torch.tensor([labels + [-100] * (width - len(labels)) for _, labels in batch]),
            )


def optimizers(model: PreTrainedModel) -> list[torch.optim.Optimizer]:
    """Muon for the weight matrices of the layers, AdamW for embeddings, norms and biases."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (matrices if parameter.ndim == 2 and "embed" not in name else others).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=MUON_RATE, weight_decay=0.0),
        torch.optim.AdamW(others, lr=ADAMW_RATE, weight_decay=0.0),
    ]


def train(name: str, recipe: Recipe, out: Path, seconds: float) -> dict[str, Any]:
    """Train one model for ``seconds`` of this process's CPU time and save its checkpoint to ``out``.

    Returns:
        The record of the training: parameters, steps, examples, seconds, final loss (mean of the last 50
        batches, nats per answer token), seed, mix.
    """
    tokenizer = train_tokenizer(recipe)
    backend = tokenizer.backend_tokenizer
    model = new_model(recipe, len(tokenizer))
    progress = Progress()
    stream = batches(recipe, backend, tokenizer.eos_token_id, progress)
    steppers = optimizers(model)
    rates = [group["lr"] for stepper in steppers for group in stepper.param_groups]
    started = time.process_time()
    steps = examples = 0
    losses: list[float] = []
    while (spent := (time.process_time() - started) / seconds) < 1.0:
        progress.share = spent
        factor = min(1.0, (1.0 - spent) / (1.0 - CONSTANT_SHARE))
        groups = [group for stepper in steppers for group in stepper.param_groups]
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate * factor
        ids, labels = next(stream)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        for stepper in steppers:
            stepper.step()
            stepper.zero_grad(set_to_none=True)
        steps, examples = steps + 1, examples + len(ids)
        losses.append(loss.item())
        if steps % 100 == 0:
            recent = sum(losses[-100:]) / 100
            print(f"{name} step {steps} {spent:4.0%} loss {recent:.4f}", flush=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": steps,
        "examples": examples,
        "seconds": seconds,
        "seed": recipe.seed,
        "loss": round(sum(losses[-50:]) / max(1, len(losses[-50:])), 4),
        "mix": dataclasses.asdict(recipe.mix),
        "about": recipe.about,
    }


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=sorted(RECIPES), help="train this one only")
    parser.add_argument("--seconds", type=float, help="CPU seconds per model, instead of the recipe's")
    parser.add_argument("--out", type=Path, default=HERE / "checkpoints", help="folder for the checkpoints")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in [options.model] if options.model else list(RECIPES):
        recipe = RECIPES[name]
        out = options.out / name
        report = train(name, recipe, out, options.seconds or recipe.seconds)
        (out / "training.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        print(json.dumps({"model": name, **report}), flush=True)


if __name__ == "__main__":
    main()
