# SPDX-License-Identifier: Apache-2.0
"""Make checkpoints of real shapes with random weights: right for speed and memory, meaningless as answers."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

END, PAD = "<|end|>", "<|pad|>"
CHAT = (
    "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
_LEARNED_TOKENS = 4096
_DONE = "made.json"


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a Llama.

    Attributes:
        hidden: Width of the residual stream.
        inner: Width of the feed-forward layers.
        layers: Number of layers.
        heads: Query heads.
        kv_heads: Key and value heads.
        vocabulary: Number of tokens.
        tied: Whether input and output embeddings are one matrix.
        judged: Whether speed targets are held against it; the small ones cost less than the graph itself.
        like: The public model with these sizes.
    """

    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool
    judged: bool
    like: str

    @property
    def parameters(self) -> int:
        """Number of parameters; tied ones count once."""
        width = self.hidden // self.heads
        attention = 2 * self.hidden * self.hidden + 2 * self.hidden * self.kv_heads * width
        block = attention + 3 * self.hidden * self.inner + 2 * self.hidden
        return self.layers * block + self.hidden + self.vocabulary * self.hidden * (1 if self.tied else 2)


SHAPES = {
    "tiny": Shape(64, 128, 2, 4, 2, 2048, True, False, "none, for tests"),
    "small": Shape(384, 1024, 6, 6, 2, 8192, True, False, "none, for CPUs"),
    "1b": Shape(2048, 8192, 16, 32, 8, 128_256, True, True, "Llama 3.2 1B"),
    "8b": Shape(4096, 14_336, 32, 32, 8, 128_256, False, True, "Llama 3.1 8B"),
}


def make_checkpoint(shape: str, folder: Path, texts: Iterable[str], device: str) -> Path:
    """Write a checkpoint with random weights, unless it is there already.

    Args:
        shape: A key of :data:`SHAPES`.
        folder: To make.
        texts: Texts for the tokenizer, filled up with made-up words to the shape's vocabulary.
        device: Where the weights are drawn.

    Returns:
        ``folder``.
    """
    if (folder / _DONE).is_file():
        return folder
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    size = SHAPES[shape]
    _tokenizer(texts, size.vocabulary).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        max_position_embeddings=8192,
        tie_word_embeddings=size.tied,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
        initializer_range=0.05,
    )
    torch.manual_seed(0)
    dtype = torch.bfloat16 if size.judged else torch.float32
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.save_pretrained(folder)
    made = {"shape": shape, "parameters": size.parameters, "weights": "random, seed 0"}
    (folder / _DONE).write_text(json.dumps(made) + "\n", encoding="utf-8")
    return folder


def _tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=min(_LEARNED_TOKENS, vocabulary),
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learned.train_from_iterator(texts, trainer)
    model = json.loads(learned.to_str())["model"]
    words = model["vocab"]
    draw = random.Random(0)
    while len(words) < vocabulary:
        word = "".join(draw.choices(string.ascii_lowercase, k=draw.randint(4, 9)))
        words.setdefault(draw.choice(("", "Ġ")) + word, len(words))
    merges = [tuple(pair) for pair in model["merges"]]
    full = Tokenizer(models.BPE(vocab=words, merges=merges))
    full.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    full.decoder = decoders.ByteLevel()
    full.add_special_tokens([END, PAD])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=full, eos_token=END, pad_token=PAD)
    tokenizer.chat_template = CHAT
    return tokenizer
