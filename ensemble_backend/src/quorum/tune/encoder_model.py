# SPDX-License-Identifier: Apache-2.0
"""The network of an encoder: a base without its own head, and a linear layer on top."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from quorum.runtimes.heads import CODECS, HeadKind
from quorum.tune.base import loading
from quorum.tune.heads import TUNINGS, Target

Method = Literal["full", "lora"]
_DROPOUT = 0.1


class Network(nn.Module):  # type: ignore[misc]
    """Token ids and attention mask, int64 (rows, length), to logits, float32.

    Logits of two dimensions, (rows, outputs), are of the first token; else they are (rows, length, outputs).
    """

    def __init__(self, encoder: nn.Module, head: HeadKind, outputs: int, separator: int | None) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(_DROPOUT)
        self.classifier = nn.Linear(encoder.config.hidden_size, outputs)
        self._is_pooled, self._separator = CODECS[head].dims == 2, separator

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Compute the logits; the second sequence of a pair is what follows the first separator."""
        more = {}
        if self._separator is not None:
            ends = (input_ids == self._separator).to(torch.int64)
            more["token_type_ids"] = ((ends.cumsum(1) - ends) > 0).to(torch.int64) * attention_mask
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **more)[0]
        if self._is_pooled:
            hidden = hidden[:, 0]
        return self.classifier(self.dropout(hidden)).to(torch.float32)


def load_encoder(folder: Path) -> Any:
    """Load a base in float32, without a head; raises BaseModelError for a damaged one."""
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    with loading(folder):
        encoder = AutoModel.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
        )
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return encoder


def load_network(
    folder: Path,
    head: HeadKind,
    outputs: int,
    separator: int | None,
    method: Method,
) -> Network:
    """Load a base, and unfreeze what the method trains: the head, and all but embeddings, or LoRA's layers.

    Embeddings, half of a small encoder, are not trained.

    Args:
        folder: Of the base.
        head: Kind of the head.
        outputs: Size of the last dimension of the logits.
        separator: Id of the token between two sequences.
        method: ``full``, or ``lora`` (Hu et al., arXiv 2106.09685).
    """
    encoder = load_encoder(folder)
    has_types = getattr(encoder.config, "type_vocab_size", 0) > 1
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(method == "full" and "embeddings." not in name)
    if method == "lora":
        from peft import LoraConfig, get_peft_model

        options = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules="all-linear")
        encoder = get_peft_model(encoder, options)
    return Network(encoder, head, outputs, separator if has_types else None)


def merged(network: Network) -> Network:
    """The network with LoRA's layers added to those of the base."""
    if hasattr(network.encoder, "merge_and_unload"):
        network.encoder = network.encoder.merge_and_unload()
    return network


def loss_of(
    network: Network,
    head: HeadKind,
    rows: Sequence[Target],
    inputs: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]],
    class_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean cross-entropy of a batch: of labels, of tags of words, or of first and last token."""
    device = network.classifier.weight.device
    ids, mask = (torch.from_numpy(part).to(device) for part in inputs)
    return TUNINGS[head].loss(network(ids, mask), rows, class_weights)
