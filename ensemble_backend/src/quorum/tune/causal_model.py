# SPDX-License-Identifier: Apache-2.0
"""Load a causal LLM to train, with or without an adapter; its loss on examples; and save it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from quorum.runtimes.peft_adapter import MODULES
from quorum.tune.base import Base, BaseModelError, loading
from quorum.tune.encoder import has_bfloat16
from quorum.tune.quiet import without_announcements
from quorum.tune.threads import threads_of

if TYPE_CHECKING:
    from quorum.tune.causal import CausalOptions
    from quorum.tune.causal_rows import Example

_IGNORED = -100


def load_model(base: Base, options: CausalOptions) -> Any:
    """The base with an adapter to train, or all of it in float32.

    Raises BaseModelError: a file is damaged, or the base lacks modules that an adapter changes.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    torch.set_num_threads(threads_of(options.threads))
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    # The frozen base of an adapter is only read: half the memory, and faster where there are units for it.
    half = options.method == "lora" and has_bfloat16(device)
    with loading(base.folder):
        model = AutoModelForCausalLM.from_pretrained(
            base.folder, local_files_only=True, dtype=torch.bfloat16 if half else torch.float32
        )
    if options.method == "lora":
        _check_modules(model, base)
    model = model.to(device)
    model.config.use_cache = False
    if options.method == "full":
        return model
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(options.seed)
    adapter = LoraConfig(
        task_type="CAUSAL_LM", r=options.rank, lora_alpha=options.alpha, target_modules=list(MODULES)
    )
    with without_announcements():
        return get_peft_model(model, adapter)


def _check_modules(model: Any, base: Base) -> None:
    """Raise BaseModelError where an adapter would change none, or only some, of the layers."""
    have = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    if missing := [name for name in MODULES if name not in have]:
        raise BaseModelError(
            f"{base.folder}: {base.model_type!r} has no {', '.join(missing)}, which adapters change; tune all"
            " weights by --method full, or name a --base with the modules of Llama"
        )


def loss_on(model: Any, examples: Sequence[Example], padding: int) -> Callable[[Sequence[int]], torch.Tensor]:
    """The mean loss per answer token of a batch, of examples by number; prompts do not count."""
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


def save_model(model: Any, tokenizer_folder: Path, out: Path, options: CausalOptions) -> None:
    """Save the adapter, or the whole checkpoint in bfloat16 with its tokenizer."""
    if options.method == "lora":
        model.save_pretrained(out)
        # PEFT's is a form to fill in; ours is the card.
        (out / "README.md").unlink(missing_ok=True)
        return
    model.config.use_cache = True
    model.to(torch.bfloat16).save_pretrained(out)
    for pattern in ("tokenizer*", "special_tokens_map.json", "vocab.json", "merges.txt", "chat_template*"):
        for file in tokenizer_folder.glob(pattern):
            shutil.copy(file, out / file.name)
