# SPDX-License-Identifier: Apache-2.0
"""The network of a cross-encoder: a base that reads item and keyphrase together, and a linear head."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from quorum.tune.encoder_model import Network, load_encoder

_SCALE, _OFFSET = 6.0, -2.0
"""Of the cosine of both parts at the start: a base for sentence vectors is right about most pairs already."""


class PairNetwork(Network):
    """Token ids and attention mask, int64 (rows, length), to two logits, float32 (rows, 2).

    The head is linear on the mean of all tokens, on the product of the means of both parts, and on their
    cosine. With few labels it learns more than one on the first token, whose vector no base for sentence
    vectors was trained for.
    """

    def __init__(self, encoder: nn.Module, separator: int) -> None:
        super().__init__(encoder, "label", 1, None)
        size = encoder.config.hidden_size
        self.classifier = nn.Linear(2 * size + 1, 1)
        self.part_separator = separator
        with torch.no_grad():
            self.classifier.weight.mul_(0.1)
            self.classifier.weight[0, -1] = _SCALE
            self.classifier.bias.fill_(_OFFSET)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Compute the logits; the second part is what follows the first separator."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask)[0].to(torch.float32)
        ends = (input_ids == self.part_separator).to(torch.int64)
        second = ((ends.cumsum(1) - ends) > 0).to(torch.float32) * attention_mask
        first = attention_mask.to(torch.float32) - second
        a, b = (nn.functional.normalize(_mean(hidden, part), dim=-1) for part in (first, second))
        product = a * b
        features = [_mean(hidden, attention_mask), product * product.shape[-1] ** 0.5]
        dropped = self.dropout(torch.cat(features, 1))
        score = self.classifier(torch.cat([dropped, product.sum(1, keepdim=True)], 1))
        return torch.cat([-score / 2, score / 2], 1).to(torch.float32)


def _mean(hidden: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    weights = kept.unsqueeze(-1).to(torch.float32)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1.0)


def load_pair_network(folder: Path, separator: int) -> PairNetwork:
    """Load a base; all is trained but its embeddings."""
    encoder = load_encoder(folder)
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_("embeddings." not in name)
    return PairNetwork(encoder, separator)
