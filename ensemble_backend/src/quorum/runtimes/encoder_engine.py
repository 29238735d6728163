# SPDX-License-Identifier: Apache-2.0
"""Compute the logits of an ONNX encoder: by OpenVINO, by ONNX Runtime, or by a Triton model of its own.

OpenVINO and ONNX Runtime read the same file and are imported on demand.
"""

from __future__ import annotations

import itertools
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quorum.runtimes.base import Infer, RuntimeSettings
from quorum.runtimes.encoder_folder import MODEL_FILE
from quorum.runtimes.encoder_input import IDS, LOGITS, MASK
from quorum.runtimes.engine_names import ENCODER_PREFIX
from quorum.runtimes.options import EncoderOptions

logger = logging.getLogger(__name__)

Tokens = npt.NDArray[np.int64]
Logits = npt.NDArray[np.float32]
Compute = Callable[[Tokens, Tokens], Logits]
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
    opener = _open_openvino if options.engine == "openvino" else _open_onnxruntime
    try:
        opened = opener(path, options)
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
    return opened.compute


class _Opened(NamedTuple):
    """A network with the dimensions of its tensors by name; None: dynamic."""

    compute: Compute
    inputs: dict[str, list[int | None]]
    outputs: dict[str, list[int | None]]
    types: dict[str, str]


def _problem(opened: _Opened, dims: int) -> str:
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


def _open_openvino(path: Path, options: EncoderOptions) -> _Opened:
    import openvino as ov

    core = ov.Core()
    model = core.read_model(path)
    properties: dict[str, Any] = {
        # Its own default would be bf16 where the CPU has it, whose answers differ from CPU to CPU.
        "INFERENCE_PRECISION_HINT": "f32" if options.precision == "auto" else options.precision,
        "INFERENCE_NUM_THREADS": options.threads,
        "NUM_STREAMS": 1,
    }

    def dims(port: Any) -> list[int | None]:
        return [None if size.is_dynamic else size.get_length() for size in port.get_partial_shape()]

    inputs = {port.get_any_name(): port for port in model.inputs}
    outputs = {port.get_any_name(): port for port in model.outputs}
    constants = (op for op in model.get_ops() if op.get_type_name() == "Constant")
    if any(constant.get_element_type() == ov.Type.i8 for constant in constants):
        logger.warning("%s is int8, which OpenVINO computes slower; set `engine: onnxruntime`", path)
    types = {name: _ov_type(port) for name, port in (inputs | outputs).items()}
    request = core.compile_model(model, "CPU", properties).create_infer_request()

    def compute(ids: Tokens, mask: Tokens) -> Logits:
        found = request.infer({IDS: ids, MASK: mask}, share_inputs=True)
        return np.array(found[LOGITS], np.float32)

    return _Opened(
        compute,
        {name: dims(port) for name, port in inputs.items()},
        {name: dims(port) for name, port in outputs.items()},
        types,
    )


def _ov_type(port: Any) -> str:
    name: str = port.get_element_type().to_dtype().name
    return name


def _open_onnxruntime(path: Path, options: EncoderOptions) -> _Opened:
    import onnxruntime as ort

    ort.set_default_logger_severity(3)
    chosen = ort.SessionOptions()
    chosen.intra_op_num_threads = options.threads
    chosen.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory(prefix="quorum-encoder-") as folder:
        file = quantise(path, Path(folder) / MODEL_FILE) if options.precision == "int8" else path
        session = ort.InferenceSession(file, chosen, providers=["CPUExecutionProvider"])

    def compute(ids: Tokens, mask: Tokens) -> Logits:
        (found,) = session.run([LOGITS], {IDS: ids, MASK: mask})
        return np.asarray(found, np.float32)

    def dims(port: Any) -> list[int | None]:
        return [size if isinstance(size, int) else None for size in port.shape]

    inputs, outputs = session.get_inputs(), session.get_outputs()
    return _Opened(
        compute,
        {port.name: dims(port) for port in inputs},
        {port.name: dims(port) for port in outputs},
        {port.name: _ort_type(port.type) for port in (*inputs, *outputs)},
    )


def _ort_type(name: str) -> str:
    """``float32`` of ``tensor(float)``."""
    inner = name.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(inner, inner)


def quantise(path: Path, target: Path) -> Path:
    """Write a network with its matrix products in int8, one scale per output channel; embeddings stay."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    level = root.level
    with warnings.catch_warnings():
        # Advice on a preprocessing that makes no difference here.
        warnings.simplefilter("ignore")
        root.setLevel(logging.ERROR)
        try:
            quantize_dynamic(
                path, target, per_channel=True, op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8
            )
        finally:
            root.setLevel(level)
    return target


def _triton(settings: RuntimeSettings[EncoderOptions]) -> Compute:
    if settings.infer is None:
        raise settings.error("with `triton: true` an encoder is served inside Triton only")
    infer: Infer = settings.infer
    model, numbers = f"{ENCODER_PREFIX}{settings.member}", itertools.count(1)

    def compute(ids: Tokens, mask: Tokens) -> Logits:
        number = f"{settings.member}-{next(numbers)}"
        return infer(model, {IDS: ids, MASK: mask}, (LOGITS,), number)[LOGITS]

    return compute


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
