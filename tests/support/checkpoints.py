# SPDX-License-Identifier: Apache-2.0
"""Tiny Hugging Face checkpoints with random weights: real files, real arithmetic, meaningless answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

END = "<|end|>"
CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"


def write_checkpoint(
    folder: Path,
    family: str = "llama",
    *,
    seed: int = 0,
    chat: str | None = None,
    positions: int = 2048,
    hidden_size: int = 32,
    head_size: int = 8,
) -> Path:
    """A checkpoint of two layers whose tokens are bytes.

    Args:
        folder: To make.
        family: ``model_type``.
        seed: Of the weights.
        chat: Chat template.
        positions: Longest sequence.
        hidden_size: Width of the hidden states.
        head_size: Width of each of the four heads.
    """
    import torch
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
    from transformers.models.auto import CONFIG_MAPPING

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([END, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END])
    config = CONFIG_MAPPING[family](
        vocab_size=len(vocabulary) + 7,  # like many real ones: more rows than tokens
        hidden_size=hidden_size,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=head_size,
        max_position_embeddings=positions,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
        # Wide enough that no two tokens tie: rounding must not decide an answer.
        initializer_range=0.5,
    )
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)
    if chat is not None:
        fast.chat_template = chat
    fast.save_pretrained(folder)
    return folder


def write_adapter(folder: Path, checkpoint: Path, *, seed: int = 1, **settings: Any) -> Path:
    """A PEFT adapter with random weights that change a checkpoint's answers; ``settings`` of LoRA."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    torch.manual_seed(seed)
    given = {
        "r": 4,
        "target_modules": ["q_proj", "v_proj", "down_proj"],
        "init_lora_weights": False,
        **settings,
    }
    get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **given)).save_pretrained(folder)
    return folder
