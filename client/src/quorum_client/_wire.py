# SPDX-License-Identifier: Apache-2.0
"""The wire: the names and limits of the contract, requests out of arguments, results out of responses.

Shared by both clients; the only module that knows protobuf messages and gRPC statuses.
"""

from __future__ import annotations

import struct
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb

from quorum_client._results import Answer, Extraction, Status, Vote
from quorum_client.errors import (
    ChannelNotFound,
    DeadlineExceeded,
    Disconnected,
    InvalidRequest,
    Overloaded,
    ProtocolError,
    QuorumError,
    ServerError,
    Unavailable,
    Unreachable,
)

TEXT = "TEXT"
CATEGORY = "CATEGORY"
ATTRIBUTES = "ATTRIBUTES"
VALUES = "VALUES"
CONFIDENCE = "CONFIDENCE"
MEMBERS = "MEMBERS"
MEMBER_VALUES = "MEMBER_VALUES"
MEMBER_STATUS = "MEMBER_STATUS"
WEIGHTS_VERSION = "WEIGHTS_VERSION"
CANARY_SHARE = "CANARY_SHARE"

STABLE = "quorum"
CANARY = "quorum_canary"

MAX_TEXT_BYTES = 32_768
MAX_CATEGORY_BYTES = 256
MAX_ATTRIBUTES = 64
MAX_ATTRIBUTE_BYTES = 128
MAX_TIMEOUT_S = 86_400
_MAX_ID_BYTES = 128

_OUTPUTS = {
    VALUES: "BYTES",
    CONFIDENCE: "FP32",
    MEMBERS: "BYTES",
    MEMBER_VALUES: "BYTES",
    MEMBER_STATUS: "INT32",
    WEIGHTS_VERSION: "INT64",
}
_STATUS = {int(status): status for status in Status}
# UNAVAILABLE has many causes, told apart by the words alone: the gate's and Triton's when full, Triton's when
# a key is missing, gRPC's when there is no connection. Unknown words stay a plain Unavailable.
_FULL = ("requests are being answered", "Exceeds maximum queue size")
_RESTRICTED = "protocol is restricted"
# Refused before anybody was asked, by Triton, our gate, or a proxy. gRPC gives the same status to a call that
# broke off, in many words of its own, so whatever is not known to be safe is taken for that.
_REFUSED = ("no available versions", "not at ready state", "server is stopping", "no healthy upstream")
_NO_CONNECTION = ("failed to connect", "errors resolving", "name resolution", "DNS resolution")


def check_timeout(timeout_s: object) -> float:
    """The deadline as seconds.

    Raises:
        InvalidRequest: Not a number above 0, or more than a day.
    """
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float):
        raise InvalidRequest(f"timeout_s: {timeout_s!r}; give seconds as a number, every call has a deadline")
    if not 0 < timeout_s <= MAX_TIMEOUT_S:
        raise InvalidRequest(f"timeout_s: {timeout_s!r}; give seconds above 0 and at most {MAX_TIMEOUT_S}")
    return float(timeout_s)


def check_channel(channel: object) -> str:
    """The channel's name.

    Raises:
        InvalidRequest: Not a name.
    """
    if not isinstance(channel, str) or not channel:
        raise InvalidRequest(f"channel: {channel!r}; name an ensemble, such as {STABLE!r} or {CANARY!r}")
    _encode("channel", channel, _MAX_ID_BYTES)
    return channel


def request(
    text: str, attributes: Sequence[str], category: str, *, channel: str, request_id: str, timeout_us: int
) -> Any:
    """Check the arguments and build the ``ModelInferRequest``; ``timeout_us`` is the members' deadline.

    Raises:
        InvalidRequest: The arguments break the contract.
    """
    raw_text = _encode(TEXT, text, MAX_TEXT_BYTES)
    if not text.strip():
        raise InvalidRequest(f"{TEXT}: empty; send the product's title or description")
    raw_category = _encode(CATEGORY, category, MAX_CATEGORY_BYTES)
    raw_attributes = _encode_attributes(attributes)
    _encode("request_id", request_id, _MAX_ID_BYTES)
    message = pb.ModelInferRequest(model_name=check_channel(channel), id=request_id)
    set_timeout(message, timeout_us)
    for name, values in ((TEXT, [raw_text]), (CATEGORY, [raw_category]), (ATTRIBUTES, raw_attributes)):
        tensor = message.inputs.add(name=name, datatype="BYTES", shape=[len(values)])
        tensor.contents.bytes_contents.extend(values)
    return message


def server_timeout_us(timeout_s: float, members_timeout_s: float | None = None) -> int:
    """The deadline that the server is told, microseconds.

    It is a little before the caller's own (a tenth, at most a quarter of a second), so that members which
    are late come back as abstentions instead of the whole answer being lost; earlier if the caller says so.

    Raises:
        InvalidRequest: ``members_timeout_s`` is not a number from 0.
    """
    latest = timeout_s - min(0.25, timeout_s / 10)
    if members_timeout_s is not None:
        if isinstance(members_timeout_s, bool) or not isinstance(members_timeout_s, int | float):
            raise InvalidRequest(
                f"members_timeout_s: {members_timeout_s!r}; give seconds as a number, or None"
            )
        if not members_timeout_s >= 0:
            raise InvalidRequest(f"members_timeout_s: {members_timeout_s!r}; give seconds from 0")
        latest = min(latest, members_timeout_s)
    # Triton reads 0 as "no deadline".
    return max(1, int(latest * 1e6))


def set_timeout(message: Any, timeout_us: int) -> None:
    """Tell the server another deadline."""
    message.parameters["timeout"].int64_param = timeout_us


def check_product(product: object) -> str:
    """What a product is known by.

    Raises:
        InvalidRequest: Not text that UTF-8 can hold.
    """
    _encode("product_id", product, sys.maxsize)
    return str(product)


def canary_share(response: Any) -> float:
    """The share of the traffic that the server wants on its canary; 0 from a server that tells none."""
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        if output.name == CANARY_SHARE and output.datatype == "FP64" and len(raw) == 8:
            (share,) = struct.unpack("<d", raw)
            return float(share) if 0.0 <= share <= 1.0 else 0.0
    return 0.0


def extraction(
    response: Any,
    attributes: Sequence[str],
    request_id: str,
    latency_s: float,
    channel: str = STABLE,
    fallback_from: str | None = None,
) -> Extraction:
    """Read a ``ModelInferResponse``.

    Raises:
        ProtocolError: It is not what the contract says.
    """
    try:
        if response.id != request_id:
            raise ValueError(f"it carries the id {response.id!r}, asked was {request_id!r}")
        found = _read(response, tuple(attributes), latency_s)
        return replace(found, channel=channel, fallback_from=fallback_from)
    except (KeyError, ValueError, struct.error) as error:
        raise ProtocolError(
            f"answer of {response.model_name!r}: {error}; use a client and a server of the same release",
            request_id=request_id,
        ) from error


def from_grpc(error: Any, *, url: str, channel: str, timeout_s: float, request_id: str | None) -> QuorumError:
    """The error of this package that stands for a ``grpc.RpcError``."""
    code, details = error.code(), (error.details() or "no details")
    where = f"{channel!r} at {url}"
    match code:
        case grpc.StatusCode.INVALID_ARGUMENT:
            return InvalidRequest(f"{where} refused the request: {details}", request_id=request_id)
        case grpc.StatusCode.NOT_FOUND:
            message = f"{url} has no channel {channel!r}: {details}; check the name, or publish weights to it"
            return ChannelNotFound(message, request_id=request_id)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            message = (
                f"{where} gave no answer within {timeout_s:g} s; allow more, or look at the server's load"
            )
            return DeadlineExceeded(message, request_id=request_id)
        case grpc.StatusCode.UNAVAILABLE if any(words in details for words in _FULL):
            return Overloaded(f"{where} is full: {details}", request_id=request_id)
        case grpc.StatusCode.UNAVAILABLE if any(words in details for words in _NO_CONNECTION):
            message = f"no connection to {url}: {details}; check the address, and that the server runs"
            return Unreachable(message, request_id=request_id)
        case grpc.StatusCode.UNAVAILABLE if _RESTRICTED in details:
            message = f"{where} wants a key: {details}; pass it with headers="
            return ServerError(message, status=code.name, request_id=request_id)
        case grpc.StatusCode.UNAVAILABLE if any(words in details for words in _REFUSED):
            return Unavailable(f"{where} is not available: {details}; try again later", request_id=request_id)
        case grpc.StatusCode.UNAVAILABLE:
            message = f"the call to {where} broke off: {details}; members may have been asked"
            return Disconnected(message, request_id=request_id)
    message = f"{where} failed with {code.name}: {details}; the server's log has more under this request id"
    return ServerError(message, status=code.name, request_id=request_id)


def _encode(tensor: str, value: object, limit: int) -> bytes:
    if not isinstance(value, str):
        raise InvalidRequest(f"{tensor}: a {type(value).__name__}; give a str")
    try:
        raw = value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"{tensor}: a lone surrogate at character {error.start}; mend how the text was decoded"
        ) from None
    if len(raw) > limit:
        raise InvalidRequest(f"{tensor}: {len(raw)} bytes of UTF-8, the limit is {limit}; shorten it")
    return raw


def _encode_attributes(attributes: Sequence[str]) -> list[bytes]:
    if isinstance(attributes, str | bytes) or not isinstance(attributes, Sequence):
        raise InvalidRequest(f"{ATTRIBUTES}: a {type(attributes).__name__}; give a list of names")
    if not attributes:
        raise InvalidRequest(f"{ATTRIBUTES}: empty; name at least one attribute")
    if len(attributes) > MAX_ATTRIBUTES:
        raise InvalidRequest(
            f"{ATTRIBUTES}: {len(attributes)} names, the limit is {MAX_ATTRIBUTES}; split them"
        )
    raw = [_encode(f"{ATTRIBUTES}[{i}]", name, MAX_ATTRIBUTE_BYTES) for i, name in enumerate(attributes)]
    seen: set[str] = set()
    for index, name in enumerate(attributes):
        if not name.strip():
            raise InvalidRequest(f"{ATTRIBUTES}[{index}]: empty; remove it")
        if any(unicodedata.category(character) == "Cc" for character in name):
            raise InvalidRequest(f"{ATTRIBUTES}[{index}]: {name!r} holds control characters; remove them")
        if name != name.strip():
            raise InvalidRequest(f"{ATTRIBUTES}[{index}]: {name!r} has white space around it; remove it")
        if name.casefold() in seen:
            raise InvalidRequest(
                f"{ATTRIBUTES}[{index}]: {name!r} a second time, without regard to case; name each once"
            )
        seen.add(name.casefold())
    return raw


def _read(response: Any, attributes: tuple[str, ...], latency_s: float) -> Extraction:
    if len(response.outputs) != len(response.raw_output_contents):
        raise ValueError(f"{len(response.outputs)} outputs, {len(response.raw_output_contents)} contents")
    raw = {o.name: (o, c) for o, c in zip(response.outputs, response.raw_output_contents, strict=True)}
    missing = _OUTPUTS.keys() - raw.keys()
    if missing:
        raise ValueError(f"no output {', '.join(sorted(missing))}")
    for name, datatype in _OUTPUTS.items():
        if raw[name][0].datatype != datatype:
            raise ValueError(f"{name} is {raw[name][0].datatype}, expected {datatype}")
    members = _strings(MEMBERS, raw[MEMBERS][1])
    a, n = len(attributes), len(members)
    shapes = {VALUES: [a], CONFIDENCE: [a], MEMBERS: [n], MEMBER_VALUES: [n, a], MEMBER_STATUS: [n, a]}
    for name, shape in (shapes | {WEIGHTS_VERSION: [1]}).items():
        if list(raw[name][0].shape) != shape:
            raise ValueError(f"{name} has shape {list(raw[name][0].shape)}, expected {shape}")
    values = _strings(VALUES, raw[VALUES][1], a)
    said = _strings(MEMBER_VALUES, raw[MEMBER_VALUES][1], n * a)
    status = [_STATUS.get(code, Status.ERROR) for code in struct.unpack(f"<{n * a}i", raw[MEMBER_STATUS][1])]
    confidence = struct.unpack(f"<{a}f", raw[CONFIDENCE][1])
    if not all(0.0 <= c <= 1.0 for c in confidence):
        raise ValueError(f"{CONFIDENCE} {confidence} is not in [0, 1]")
    votes = [
        tuple(
            Vote(member, said[j * a + i] if status[j * a + i] is Status.ANSWERED else None, status[j * a + i])
            for j, member in enumerate(members)
        )
        for i in range(a)
    ]
    answers = tuple(
        Answer(attribute, values[i] or None, confidence[i], votes[i])
        for i, attribute in enumerate(attributes)
    )
    (version,) = struct.unpack("<q", raw[WEIGHTS_VERSION][1])
    return Extraction(response.id, answers, version, latency_s)


def _strings(name: str, raw: bytes, count: int | None = None) -> list[str]:
    """Split Triton's BYTES layout: a little-endian uint32 length before each element."""
    elements: list[str] = []
    at = 0
    while at < len(raw):
        (length,) = struct.unpack_from("<I", raw, at)
        at += 4
        if at + length > len(raw):
            raise ValueError(f"{name} ends within element {len(elements)}")
        elements.append(raw[at : at + length].decode("utf-8"))
        at += length
    if count is not None and len(elements) != count:
        raise ValueError(f"{name} holds {len(elements)} elements, expected {count}")
    return elements
