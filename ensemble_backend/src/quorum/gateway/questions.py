# SPDX-License-Identifier: Apache-2.0
"""Check KServe requests by allow-lists, and change them without writing them anew.

Protobuf reads two messages in a row as one: of a field that occurs twice the last value counts, and lists are
joined. So the channel is replaced, and an output is asked for, by bytes at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tritonclient.grpc import service_pb2 as pb

from quorum_client import cancel_request
from quorum_client.errors import ChannelNotFound, InvalidRequest
from quorum_contract import CANCEL, CHANNELS, LAZY_CHANNELS, PRIORITY, RECOMMEND_CHANNELS
from quorum_contract.tensors import TEXT
from quorum_contract.tracing import TRACE_PARENT

OPEN = (*CHANNELS, *LAZY_CHANNELS, *RECOMMEND_CHANNELS)
"""The channels that callers may ask."""
_PARAMETERS = frozenset(["timeout", PRIORITY, CANCEL, TRACE_PARENT])


def check_question(request: Any) -> None:
    """Refuse what no question of the contract has: other models, parameters that Triton acts on.

    Args:
        request: A ``ModelInferRequest``.

    Raises:
        ChannelNotFound: The model is none of the public channels.
        InvalidRequest: A parameter such as ``classification``, or a region of shared memory.
    """
    check_channel(request.model_name)
    # The retriever has no cancellation, and would answer one.
    passed = _PARAMETERS - {CANCEL} if request.model_name in RECOMMEND_CHANNELS else _PARAMETERS
    check_parameters("request", request.parameters, passed)
    for tensor in request.inputs:
        check_parameters(tensor.name, tensor.parameters, frozenset())
    for output in request.outputs:
        check_parameters(output.name, output.parameters, frozenset())


def without_trace(raw: bytes, request: Any) -> bytes:
    """The request without a trace among its parameters: that in its headers counts, if any does.

    Args:
        raw: Its bytes.
        request: The same as a ``ModelInferRequest``; changed.
    """
    if TRACE_PARENT not in request.parameters:
        return raw
    del request.parameters[TRACE_PARENT]
    found: bytes = request.SerializeToString()
    return found


def with_caller(raw: bytes, request: Any, caller: str) -> bytes:
    """The request with ids that are the caller's own, so that no other caller can cancel it: ``NAME/ID``.

    Args:
        raw: Its bytes.
        request: The same as a ``ModelInferRequest``.
        caller: Name of the caller, which has no slash.
    """
    own = pb.ModelInferRequest()
    if request.id:
        own.id = f"{caller}/{request.id}"
    if CANCEL in request.parameters and (cancelled := request.parameters[CANCEL].string_param):
        own.parameters[CANCEL].string_param = f"{caller}/{cancelled}"
    end: bytes = own.SerializeToString()
    return raw + end


def with_id(raw: bytes, request: Any) -> bytes:
    """An answer with the id that the caller gave its request.

    Args:
        raw: Bytes of a ``ModelInferResponse``.
        request: The ``ModelInferRequest`` of the caller.
    """
    end: bytes = pb.ModelInferResponse(id=request.id).SerializeToString()
    return raw + end


def check_parameters(what: str, given: Any, allowed: frozenset[str]) -> None:
    """Raise InvalidRequest for a parameter that is not allowed."""
    unknown = sorted(given.keys() - allowed)
    if unknown:
        raise InvalidRequest(
            f"{what[:64]!r}: parameter {unknown[0][:64]!r} is not part of a question; remove it"
        )


def check_channel(name: str) -> None:
    """Raise ChannelNotFound for a model that is none of the public channels."""
    if name not in OPEN:
        raise ChannelNotFound(f"{name[:64]!r} is not open to callers; ask {' or '.join(OPEN)}")


def cancel_of(raw: bytes) -> bytes | None:
    """The request that cancels a request; ``None`` for one that asks no member or has no id."""
    request = pb.ModelInferRequest.FromString(raw)
    if not request.id or CANCEL in request.parameters or request.model_name in RECOMMEND_CHANNELS:
        return None
    cancel: bytes = cancel_request(request.model_name, request.id).SerializeToString()
    return cancel


def with_channel(raw: bytes, channel: str) -> bytes:
    """The request for another channel."""
    end: bytes = pb.ModelInferRequest(model_name=channel).SerializeToString()
    return raw + end


def unnamed(request: Any, names: Iterable[str]) -> list[str]:
    """Those of the outputs that a request would not get: one that names none gets all."""
    asked = {output.name for output in request.outputs}
    return [name for name in names if asked and name not in asked]


def with_outputs(raw: bytes, names: Sequence[str]) -> bytes:
    """The request, with more outputs."""
    if not names:
        return raw
    more = pb.ModelInferRequest()
    for name in names:
        more.outputs.add(name=name)
    end: bytes = more.SerializeToString()
    return raw + end


def without_outputs(response: Any, names: Sequence[str]) -> None:
    """Take outputs, which the caller has not asked for, out of a ``ModelInferResponse``."""
    has_raw = len(response.raw_output_contents) == len(response.outputs)
    for place in reversed(range(len(response.outputs))):
        if response.outputs[place].name in names:
            del response.outputs[place]
            if has_raw:
                del response.raw_output_contents[place]


def text_of(request: Any) -> str:
    """The text of a question, by which it is routed where the caller gives no id; "" where it has none."""
    for place, tensor in enumerate(request.inputs):
        if tensor.name == TEXT:
            if tensor.contents.bytes_contents:
                return bytes(tensor.contents.bytes_contents[0]).decode("utf-8", "replace")
            if place < len(request.raw_input_contents):
                # Four bytes of length, then the text.
                return bytes(request.raw_input_contents[place][4:]).decode("utf-8", "replace")
    return ""
