# SPDX-License-Identifier: Apache-2.0
"""The networks of a student: a base with mean pooling, and a matrix on its vectors."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from quorum.distill.options import Method
from quorum.tune.encoder_model import load_encoder


class Pooled(nn.Module):  # type: ignore[misc]
    """Token ids and attention mask, int64 (rows, length), to the mean of the tokens' vectors, (rows, d)."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    @property
    def size(self) -> int:
        """Dimensions d."""
        return int(self.encoder.config.hidden_size)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Compute the vectors."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask)[0].to(torch.float32)
        kept = attention_mask.unsqueeze(-1).to(torch.float32)
        return (hidden * kept).sum(1) / kept.sum(1).clamp(min=1.0)


class Adapter(nn.Module):  # type: ignore[misc]
    """(n, d) vectors of the base to (n, dims): x + xW for items and keyphrases alike; W begins at 0.

    On queries that were not learned one matrix agrees better with the judge than one for each kind, most of
    all where vectors are cut.
    """

    def __init__(self, size: int, dims: int) -> None:
        super().__init__()
        self.dims = dims
        self.matrix = nn.Parameter(torch.zeros(size, dims))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Compute the student's vectors."""
        return vectors[:, : self.dims] + vectors @ self.matrix


class Folded(nn.Module):  # type: ignore[misc]
    """What is exported: one matrix product after the base, whose halves are the vectors of both kinds.

    They are equal here; the format of a student lets them differ.
    """

    def __init__(self, base: Pooled, adapter: Adapter) -> None:
        super().__init__()
        self.base, self.dims = base, adapter.dims
        same = torch.eye(base.size, adapter.dims, device=adapter.matrix.device)
        self.register_buffer("matrix", (same + adapter.matrix).detach().repeat(1, 2))

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Item vectors and keyphrase vectors, (rows, dims) each."""
        both = self.base(input_ids, attention_mask) @ self.matrix
        return both[:, : self.dims], both[:, self.dims :]


def load_pooled(folder: Path, method: Method) -> Pooled:
    """Load a base, with what the method trains: nothing (``adapter``), or its upper half (``layers``)."""
    base = Pooled(load_encoder(folder))
    layers = [module for module in base.modules() if isinstance(module, nn.ModuleList)]
    # The list of the layers is the outermost one.
    upper = list(layers[0])[len(layers[0]) // 2 :] if layers else []
    base.requires_grad_(False)
    if method == "layers":
        for layer in upper:
            layer.requires_grad_(True)
    return base
