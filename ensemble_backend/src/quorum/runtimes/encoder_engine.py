# SPDX-License-Identifier: Apache-2.0
"""Compute the logits of an ONNX encoder: by OpenVINO, by ONNX Runtime, or by a Triton model of its own.

OpenVINO and ONNX Runtime read the same file and are imported on demand.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Sequence

from quorum.runtimes.base import Infer, RuntimeSettings
from quorum.runtimes.encoder_folder import MODEL_FILE
from quorum.runtimes.encoder_input import IDS, LOGITS, MASK
from quorum.runtimes.engine_names import ENCODER_PREFIX
from quorum.runtimes.onnx_network import Floats, Network, Tokens, open_onnx
from quorum.runtimes.options import EncoderOptions

Compute = Callable[[Tokens, Tokens], Floats]
"""Token ids and attention mask, both [rows, length], to logits [rows, ...]."""


def open_network(settings: RuntimeSettings[EncoderOptions], dims: int) -> Compute:
    """Open ``model.onnx`` of the member's folder, whose logits are to have ``dims`` dimensions.

    What is returned must not be called from two threads at once.

    Raises:
        RuntimeConfigError: The engine is not installed, or the file is no such network.
    """
    options = settings.options
    if options.triton:
        return _triton(settings)
    path = settings.root / options.model / MODEL_FILE
    try:
        opened = open_onnx(path, options.engine, options.precision, options.threads)
    except ModuleNotFoundError as error:
        raise settings.error(
            f"engine {options.engine!r} needs the package {error.name!r}, which {sys.executable} does not"
            f" have; `pip install {error.name}` there, or choose another `engine`"
        ) from error
    except Exception as error:
        raise settings.error(
            f"{path} cannot be read by {options.engine} ({_last_line(error)}); make it again with"
            " `quorum tune`"
        ) from error
    if problem := _problem(opened, dims):
        raise settings.error(f"{path} {problem}; make it again with `quorum tune`")
    return lambda ids, mask: opened.compute(ids, mask, LOGITS)


def _problem(opened: Network, dims: int) -> str:
    """Why a network does not fit the contract; empty where it does."""
    if {*opened.inputs} != {IDS, MASK}:
        return f"has inputs {', '.join(sorted(opened.inputs))}, expected {IDS} and {MASK}"
    if {*opened.outputs} != {LOGITS}:
        return f"has outputs {', '.join(sorted(opened.outputs))}, expected {LOGITS}"
    for name, shape in opened.inputs.items():
        if opened.types[name] != "int64" or shape != [None, None]:
            return f"has {name} of type {opened.types[name]} and shape {_shown(shape)}, expected int64 [?, ?]"
    shape = opened.outputs[LOGITS]
    if opened.types[LOGITS] != "float32" or len(shape) != dims or shape[0] is not None:
        expected = ", ".join(["?"] * (dims - 1))
        return (
            f"has {LOGITS} of type {opened.types[LOGITS]} and shape {_shown(shape)}, expected float32"
            f" [{expected}, outputs]"
        )
    return ""


def _shown(shape: Sequence[int | None]) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in shape)}]"


def _triton(settings: RuntimeSettings[EncoderOptions]) -> Compute:
    if settings.infer is None:
        raise settings.error("with `triton: true` an encoder is served inside Triton only")
    infer: Infer = settings.infer
    model, numbers = f"{ENCODER_PREFIX}{settings.member}", itertools.count(1)

    def compute(ids: Tokens, mask: Tokens) -> Floats:
        number = f"{settings.member}-{next(numbers)}"
        return infer(model, {IDS: ids, MASK: mask}, (LOGITS,), number)[LOGITS]

    return compute


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
