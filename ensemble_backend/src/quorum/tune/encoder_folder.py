# SPDX-License-Identifier: Apache-2.0
"""Write network and tokenizer of an encoder's folder, and compute by PyTorch or by the written network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from quorum.runtimes.encoder_folder import MODEL_FILE, TOKENIZER_FILE, EncoderFile
from quorum.runtimes.encoder_input import LOGITS, EncoderInput
from quorum.runtimes.heads import Encoded
from quorum.tune.onnx_check import OnnxNetwork, check_onnx, refuse_difference

if TYPE_CHECKING:
    from quorum.tune.encoder_model import Network

Compute = Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], npt.NDArray[np.float32]]
COMPARED = 64
"""Rows whose outputs by ONNX and by PyTorch are compared."""
_BATCH = 64


def compute_by(network: Network) -> Compute:
    """Compute logits by PyTorch, where the network lies."""
    import torch

    device = network.classifier.weight.device

    def compute(ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            logits: npt.NDArray[np.float32] = (
                network(torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)).cpu().numpy()
            )
        return logits

    return compute


def predict(compute: Compute, inputs: EncoderInput, rows: Sequence[Encoded]) -> list[npt.NDArray[np.float32]]:
    """Logits of each row, padding included, computed in batches of similar length."""
    order = sorted(range(len(rows)), key=lambda place: len(rows[place].ids))
    found: dict[int, npt.NDArray[np.float32]] = {}
    for at in range(0, len(order), _BATCH):
        places = order[at : at + _BATCH]
        logits = compute(*inputs.pad([rows[place] for place in places]))
        found.update(zip(places, logits, strict=True))
    return [found[place] for place in range(len(rows))]


def separator_of(tokenizer: Path) -> int | None:
    """Id of the token between two sequences; None where the tokenizer has none."""
    from tokenizers import Tokenizer

    made = Tokenizer.from_file(str(tokenizer))
    found = (made.token_to_id(name) for name in ("[SEP]", "</s>"))
    return next((token for token in found if token is not None), None)


def write_network(
    network: Network, described: EncoderFile, inputs: EncoderInput, rows: Sequence[Encoded], folder: Path
) -> Path:
    """Export a network to ``model.onnx``, and compare the first rows with PyTorch; returns the file.

    Raises:
        OnnxError: The file is not what the runtime needs, or computes something else.
    """
    from quorum.tune.onnx_export import export

    network = network.cpu().eval()
    model = folder / MODEL_FILE
    export(network, model)
    check_onnx(model, {LOGITS: [*[None] * (described.dims - 1), described.outputs]})
    compared = rows[:COMPARED]
    ours, theirs = (predict(by, inputs, compared) for by in (OnnxNetwork(model), compute_by(network)))
    refuse_difference(list(zip(ours, theirs, strict=True)))
    return model


def save_tokenizer(source: Path, folder: Path) -> None:
    """Write a tokenizer without the padding and truncation that its file may state."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(source))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.save(str(folder / TOKENIZER_FILE))
