# SPDX-License-Identifier: Apache-2.0
"""Tensors of KServe v2 as JSON, and as Triton's messages; only those of the contract, without binary data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from tritonclient.utils import deserialize_bytes_tensor

from quorum.gateway.questions import check_parameters
from quorum_client.errors import InvalidRequest, ProtocolError
from quorum_client.messages import bare_message
from quorum_contract import INTERACTIVE, PRIORITY, RECOMMEND_CHANNELS
from quorum_contract.checks import (
    check_limit,
    check_min_score,
    decode_attributes,
    decode_category,
    decode_text,
)
from quorum_contract.tensors import (
    ANSWERED,
    ASKED,
    ATTRIBUTES,
    CATEGORY,
    LIMIT,
    MIN_SCORE,
    RECOMMEND_ASKED,
    RECOMMENDED,
    SHARE,
    TEXT,
    Tensor,
)
from quorum_contract.tracing import TRACE_PARENT

Parameters = dict[str, str | int | float | bool]
_TIMEOUT = "timeout"
# Also what tritonclient sends by itself: answers are JSON either way, as the extension allows. A trace
# is dropped: that in the headers counts.
_REQUEST_PARAMETERS = frozenset([_TIMEOUT, PRIORITY, "binary_data_output", TRACE_PARENT])
_OUTPUT_PARAMETERS = frozenset(["binary_data"])
_CONTENTS = {"BYTES": "bytes_contents", "INT32": "int_contents", "FP32": "fp32_contents"}
_NUMBERS = {"FP32": "<f4", "FP64": "<f8", "INT32": "<i4", "INT64": "<i8"}
_INT32, _FP32 = 1 << 31, float(np.finfo(np.float32).max)
_CHECKS: dict[str, Callable[[list[Any]], object]] = {
    TEXT: lambda values: decode_text(values[0]),
    CATEGORY: lambda values: decode_category(values[0]),
    ATTRIBUTES: decode_attributes,
    LIMIT: lambda values: check_limit(values[0]),
    MIN_SCORE: lambda values: check_min_score(values[0]),
}
"""What a tensor may hold; Triton sees nothing else."""


class InputTensor(msgspec.Struct, frozen=True):
    """One input: ``shape`` is ``[number of elements]``, ``data`` a flat list."""

    name: str
    datatype: str
    shape: list[int]
    data: list[str | int | float] | None = None
    parameters: Parameters = {}


class OutputName(msgspec.Struct, frozen=True):
    """One output that is wanted."""

    name: str
    parameters: Parameters = {}


class InferRequest(msgspec.Struct, frozen=True):
    """A question to a channel, as KServe v2 has it.

    Attributes:
        inputs: Those of the contract.
        id: Comes back with the answer.
        parameters: ``timeout``, microseconds, and ``quorum_priority``.
        outputs: Those that are wanted; by default all.
    """

    inputs: Annotated[list[InputTensor], msgspec.Meta(max_length=8)]
    id: str = ""
    parameters: Parameters = {}
    outputs: Annotated[list[OutputName], msgspec.Meta(max_length=32)] = []


class OutputTensor(msgspec.Struct, frozen=True):
    """One output: a number that is not known (NaN) is null."""

    name: str
    datatype: str
    shape: list[int]
    data: list[str | int | float | None]


class InferAnswer(msgspec.Struct, frozen=True):
    """The answer of a channel, as KServe v2 has it; ``model_name`` is the channel that answered."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str = ""


def timeout_of_parameters(request: InferRequest, longest_s: float) -> float:
    """Seconds that a request may take: by its parameter ``timeout``, up to the longest.

    Raises:
        InvalidRequest: It is no whole number above 0.
    """
    given = request.parameters.get(_TIMEOUT)
    if given is None:
        return longest_s
    if isinstance(given, bool) or not isinstance(given, int) or given <= 0:
        raise InvalidRequest(f"parameter {_TIMEOUT}: {given!r:.40}; give microseconds, a number above 0")
    return min(given, int(longest_s * 1e6)) / 1e6


def message_of(request: InferRequest, channel: str, request_id: str, timeout_s: float) -> Any:
    """The ``ModelInferRequest`` for a request that is within the contract.

    Raises:
        InvalidRequest: A tensor or parameter that is not of the contract, or data of another type.
    """
    recommends = channel in RECOMMEND_CHANNELS
    check_parameters("request", request.parameters, _REQUEST_PARAMETERS)
    priority = request.parameters.get(PRIORITY, INTERACTIVE)
    message = bare_message(channel, request_id, timeout_s, priority)
    known = {tensor.name: tensor for tensor in (RECOMMEND_ASKED if recommends else ASKED)}
    if sorted(given.name for given in request.inputs) != sorted(known):
        raise InvalidRequest(f"inputs: a question of {channel!r} has {', '.join(known)}, once each")
    for given in request.inputs:
        _add(message, given, known[given.name])
    outputs = (*(RECOMMENDED if recommends else ANSWERED), SHARE)
    names = [tensor.name for tensor in outputs]
    for output in request.outputs:
        check_parameters(output.name, output.parameters, _OUTPUT_PARAMETERS)
        if output.name not in names:
            raise InvalidRequest(f"outputs: {output.name[:64]!r} is none of {', '.join(names)}")
        message.outputs.add(name=output.name)
    return message


def text_of(request: InferRequest) -> str:
    """The text of a question whose message could be made."""
    return next((str(t.data[0]) for t in request.inputs if t.name == TEXT and t.data), "")


def answer_of(response: Any, request: InferRequest, channel: str) -> InferAnswer:
    """The answer for a ``ModelInferResponse``, with the outputs that were wanted.

    Raises:
        ProtocolError: It has no raw contents, or other types than the contract.
    """
    wanted = {output.name for output in request.outputs}
    outputs = []
    try:
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
            if not wanted or output.name in wanted:
                data = _data(output.datatype, raw)
                outputs.append(OutputTensor(output.name, output.datatype, list(output.shape), data))
    except (KeyError, ValueError) as error:
        raise ProtocolError(
            f"answer of {channel!r}: {error}; use a gateway and a server of the same release"
        ) from error
    return InferAnswer(channel, response.model_version, outputs, request.id)


def _add(message: Any, given: InputTensor, tensor: Tensor) -> None:
    what = f"inputs: {tensor.name}"
    check_parameters(tensor.name, given.parameters, frozenset())
    if given.data is None:
        raise InvalidRequest(f"{what} has no data; send it as JSON, binary tensors are not taken here")
    if given.datatype != tensor.datatype:
        raise InvalidRequest(f"{what} is {given.datatype[:16]!r}; send {tensor.datatype}")
    if given.shape != [len(given.data)]:
        raise InvalidRequest(f"{what} has shape {given.shape!r:.40} and {len(given.data)} elements")
    added = message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=given.shape)
    values = [_element(value, what, tensor.datatype) for value in given.data]
    if tensor.shape == (1,) and len(values) != 1:
        raise InvalidRequest(f"{what} has {len(values)} elements; send one")
    _CHECKS[tensor.name](values)
    getattr(added.contents, _CONTENTS[tensor.datatype]).extend(values)


def _element(value: str | float, what: str, datatype: str) -> bytes | int | float:
    """One element as protobuf takes it."""
    if datatype == "BYTES" and isinstance(value, str):
        try:
            return value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidRequest(f"{what}: a lone surrogate at character {error.start}") from error
    if isinstance(value, str | bool):
        raise InvalidRequest(f"{what}: {value!r:.40} is no element of {datatype}")
    if datatype == "FP32" and abs(value) <= _FP32:
        return float(value)
    if datatype == "INT32" and isinstance(value, int) and -_INT32 <= value < _INT32:
        return value
    raise InvalidRequest(f"{what}: {value!r:.40} is no element of {datatype}")


def _data(datatype: str, raw: bytes) -> list[Any]:
    if datatype == "BYTES":
        elements: Sequence[bytes] = deserialize_bytes_tensor(raw)
        return [element.decode("utf-8") for element in elements]
    numbers: list[Any] = np.frombuffer(raw, _NUMBERS[datatype]).tolist()
    return numbers
