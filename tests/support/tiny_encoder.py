# SPDX-License-Identifier: Apache-2.0
"""A tiny BERT with random weights and a WordPiece tokenizer over the words given."""

from __future__ import annotations

import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def tiny_tokenizer(words: Iterable[str] = ()) -> Any:
    """A BERT-like tokenizer that knows these words, and else single characters."""
    letters = string.ascii_lowercase + string.digits + string.punctuation
    tokens = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *sorted({w.lower() for w in words})]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def write_encoder(folder: Path, words: Iterable[str] = (), *, seed: int = 0) -> Path:
    """A folder with such a base: one layer of 32."""
    import torch
    from transformers import BertConfig, BertModel

    tokenizer = tiny_tokenizer(words)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=64,
    )
    torch.manual_seed(seed)
    BertModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
