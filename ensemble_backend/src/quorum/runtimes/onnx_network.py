# SPDX-License-Identifier: Apache-2.0
"""Open an ONNX network of token ids and attention mask, by OpenVINO or by ONNX Runtime.

Both read the same file and are imported on demand.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from quorum.runtimes.encoder_folder import MODEL_FILE
from quorum.runtimes.encoder_input import IDS, MASK

logger = logging.getLogger(__name__)

Tokens = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Engine = Literal["openvino", "onnxruntime"]
Precision = Literal["auto", "f32", "bf16", "int8"]
"""``bf16`` is OpenVINO's, ``int8`` ONNX Runtime's; ``auto`` is ``f32``: the same on every CPU."""


class Network(NamedTuple):
    """An open network.

    Attributes:
        compute: Token ids and attention mask, both int64 (rows, length), and the name of an output, to that
            output. Not to be called from two threads at once.
        inputs: Name -> dimensions; None: dynamic.
        outputs: The same of the outputs.
        types: Name of an input or output -> its NumPy dtype.
    """

    compute: Callable[[Tokens, Tokens, str], Floats]
    inputs: dict[str, list[int | None]]
    outputs: dict[str, list[int | None]]
    types: dict[str, str]


def open_onnx(path: Path, engine: Engine, precision: Precision = "auto", threads: int = 1) -> Network:
    """Open an ONNX file.

    Args:
        path: The file.
        engine: What computes.
        precision: See :data:`Precision`.
        threads: CPU threads; 0: one per core.

    Raises:
        ModuleNotFoundError: The engine is not installed.
        Exception: What the engine raises for a file that it cannot read.
    """
    opener = _open_openvino if engine == "openvino" else _open_onnxruntime
    return opener(path, precision, threads)


def _open_openvino(path: Path, precision: Precision, threads: int) -> Network:
    import openvino as ov

    core = ov.Core()
    model = core.read_model(path)
    properties: dict[str, Any] = {
        # Its own default would be bf16 where the CPU has it, whose answers differ from CPU to CPU.
        "INFERENCE_PRECISION_HINT": "f32" if precision == "auto" else precision,
        "INFERENCE_NUM_THREADS": threads,
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

    def compute(ids: Tokens, mask: Tokens, output: str) -> Floats:
        found = request.infer({IDS: ids, MASK: mask}, share_inputs=True)
        return np.array(found[output], np.float32)

    return Network(
        compute,
        {name: dims(port) for name, port in inputs.items()},
        {name: dims(port) for name, port in outputs.items()},
        types,
    )


def _ov_type(port: Any) -> str:
    name: str = port.get_element_type().to_dtype().name
    return name


def _open_onnxruntime(path: Path, precision: Precision, threads: int) -> Network:
    import onnxruntime as ort

    ort.set_default_logger_severity(3)
    chosen = ort.SessionOptions()
    chosen.intra_op_num_threads = threads
    chosen.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory(prefix="quorum-encoder-") as folder:
        file = quantise(path, Path(folder) / MODEL_FILE) if precision == "int8" else path
        session = ort.InferenceSession(file, chosen, providers=["CPUExecutionProvider"])

    def compute(ids: Tokens, mask: Tokens, output: str) -> Floats:
        (found,) = session.run([output], {IDS: ids, MASK: mask})
        return np.asarray(found, np.float32)

    def dims(port: Any) -> list[int | None]:
        return [size if isinstance(size, int) else None for size in port.shape]

    inputs, outputs = session.get_inputs(), session.get_outputs()
    return Network(
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
