# SPDX-License-Identifier: Apache-2.0
"""Build requests, read responses and map gRPC errors.

Shared by both clients. With :mod:`quorum_client._recommend`, all that knows protobuf messages; gRPC statuses
are known here only, by their names.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from quorum_client._results import Answer, Extraction, Vote
from quorum_client._usage import read_cost, read_usage
from quorum_client.errors import (
    ChannelNotFound,
    DeadlineExceeded,
    Disconnected,
    InvalidRequest,
    Overloaded,
    PermissionDenied,
    ProtocolError,
    QuotaSpent,
    RequestError,
    ServerError,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from quorum_contract import (
    CANARY,
    CANCEL,
    CONFIDENCE,
    INTERACTIVE,
    LAZY_CHANNELS,
    MEMBER_STATUS,
    MEMBER_VALUES,
    MEMBERS,
    PRIORITIES,
    PRIORITY,
    STABLE,
    VALUES,
    WEIGHTS_VERSION,
    DecisionStatus,
    Priority,
    Status,
)
from quorum_contract.checks import encode, encode_attributes, encode_category, encode_text
from quorum_contract.errors import take_code
from quorum_contract.foreign import Meaning, meaning_of
from quorum_contract.key import RETRY_AFTER
from quorum_contract.scores import valid_score
from quorum_contract.tensors import ASKED, DECIDED, PRICED, REQUIRED, SCORES, SHARE, USED, Tensor
from quorum_contract.tracing import TRACE_PARENT

MAX_TIMEOUT_S = 86_400
_MAX_ID_BYTES = 128
_STATUS = {int(status): status for status in Status}
_WITHOUT_VALUE = {int(status): status for status in DecisionStatus if status is not DecisionStatus.DECIDED}


def check_timeout(timeout_s: object) -> float:
    """Check a deadline in seconds.

    Raises:
        InvalidRequest: Not a number above 0, or more than a day.
    """
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float):
        raise InvalidRequest(f"timeout_s: {timeout_s!r}; give seconds as a number, every call has a deadline")
    if not 0 < timeout_s <= MAX_TIMEOUT_S:
        raise InvalidRequest(f"timeout_s: {timeout_s!r}; give seconds above 0 and at most {MAX_TIMEOUT_S}")
    return float(timeout_s)


def check_channel(channel: object) -> str:
    """Check a channel's name.

    Raises:
        InvalidRequest: Not a name.
    """
    if not isinstance(channel, str) or not channel:
        raise InvalidRequest(f"channel: {channel!r}; name an ensemble, such as {STABLE!r} or {CANARY!r}")
    encode(channel, "channel", _MAX_ID_BYTES)
    return channel


def request(
    text: str,
    attributes: Sequence[str],
    category: str,
    *,
    channel: str,
    request_id: str,
    timeout_us: int,
    priority: Priority = INTERACTIVE,
) -> Any:
    """Check the arguments and build the ``ModelInferRequest``; ``timeout_us`` is the members' deadline.

    Raises:
        InvalidRequest: The arguments break the contract.
    """
    contents = ([encode_text(text)], [encode_category(category)], encode_attributes(attributes))
    message = envelope(channel, request_id, timeout_us, priority)
    for tensor, values in zip(ASKED, contents, strict=True):
        added = message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=[len(values)])
        added.contents.bytes_contents.extend(values)
    return message


def envelope(channel: str, request_id: str, timeout_us: int, priority: Priority) -> Any:
    """Build a ``ModelInferRequest`` without tensors.

    Raises:
        InvalidRequest: A name, id or priority that cannot be.
    """
    from quorum_client._grpc import pb

    encode(request_id, "request_id", _MAX_ID_BYTES)
    message = pb.ModelInferRequest(model_name=check_channel(channel), id=request_id)
    set_timeout(message, timeout_us)
    if check_priority(priority) != INTERACTIVE:
        message.parameters[PRIORITY].string_param = priority
    return message


def cancel_request(channel: str, request_id: str) -> Any:
    """A request that only cancels another.

    Its text is empty, so that a server of an earlier release, which knows no cancellation, asks no LLM.
    """
    from quorum_client._grpc import pb

    message = pb.ModelInferRequest(model_name=channel)
    message.parameters[CANCEL].string_param = request_id
    for tensor in ASKED:
        added = message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=[1])
        added.contents.bytes_contents.append(b"")
    return message


def server_timeout_us(timeout_s: float, members_timeout_s: float | None = None) -> int:
    """The deadline sent to the server, microseconds.

    It is a little before the caller's own (a tenth, at most a quarter of a second), so that late members
    become abstentions instead of the whole answer being lost; earlier with ``members_timeout_s``.

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


def ready_request(channel: str) -> Any:
    """A question whether a channel can answer."""
    from quorum_client._grpc import pb

    return pb.ModelReadyRequest(name=channel)


def set_timeout(message: Any, timeout_us: int) -> None:
    """Set the deadline for the server."""
    message.parameters["timeout"].int64_param = timeout_us


def set_trace_parent(message: Any, traceparent: str) -> None:
    """Set the context of a trace."""
    message.parameters[TRACE_PARENT].string_param = traceparent


def check_priority(priority: object) -> Priority:
    """Check a priority.

    Raises:
        InvalidRequest: There is no such priority.
    """
    for known in PRIORITIES:
        if priority == known:
            return known
    raise InvalidRequest(f"priority: {priority!r}; give one of {', '.join(map(repr, PRIORITIES))}")


def check_product(product: object) -> str:
    """Check the identifier of a product.

    Raises:
        InvalidRequest: Not text that UTF-8 can hold.
    """
    encode(product, "product_id", sys.maxsize)
    return str(product)


def canary_share(response: Any) -> float:
    """The canary's share of the products in a response; 0 if the server sends none."""
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        if (output.name, output.datatype) == (SHARE.name, SHARE.datatype) and len(raw) == 8:
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
        ProtocolError: It breaks the contract.
    """
    with reading(response, request_id):
        return _read(response, tuple(attributes), latency_s, channel, fallback_from)


@contextmanager
def reading(response: Any, request_id: str) -> Iterator[None]:
    """Read a response to the request with that id in a ``with`` block.

    Raises:
        ProtocolError: It is the response to another one, or the block raises for what breaks the contract.
    """
    try:
        if response.id != request_id:
            raise ValueError(f"it carries the id {response.id!r}, asked was {request_id!r}")
        yield
    except (KeyError, ValueError, struct.error) as error:
        raise ProtocolError(
            f"answer of {response.model_name!r}: {error}; use a client and a server of the same release",
            request_id=request_id,
        ) from error


def outputs_of(response: Any, required: Sequence[Tensor]) -> dict[str, tuple[Any, bytes]]:
    """Name -> output and its content; raises ValueError where a required one lacks or is of another type."""
    if len(response.outputs) != len(response.raw_output_contents):
        raise ValueError(f"{len(response.outputs)} outputs, {len(response.raw_output_contents)} contents")
    raw = {o.name: (o, c) for o, c in zip(response.outputs, response.raw_output_contents, strict=True)}
    missing = {tensor.name for tensor in required} - raw.keys()
    if missing:
        raise ValueError(f"no output {', '.join(sorted(missing))}")
    for tensor in required:
        if raw[tensor.name][0].datatype != tensor.datatype:
            raise ValueError(f"{tensor.name} is {raw[tensor.name][0].datatype}, expected {tensor.datatype}")
    return raw


def from_grpc(
    error: Any, *, url: str, channel: str, timeout_s: float, request_id: str | None
) -> RequestError:
    """Map a ``grpc.RpcError`` to an error of this package."""
    status, where = error.code().name, f"{channel!r} at {url}"
    details, code = take_code(error.details() or "no details")
    if code == Overloaded.code:
        return Overloaded(f"{where} is full: {details}", request_id=request_id)
    if code == Unavailable.code:
        return Unavailable(f"{where} is not available: {details}; try again later", request_id=request_id)
    match status:
        case "UNAUTHENTICATED":
            message = f"{where} refused the key: {details}; pass the right one with key="
            return Unauthenticated(message, request_id=request_id)
        case "PERMISSION_DENIED" if code == PermissionDenied.code:
            return PermissionDenied(f"{where}: {details}", request_id=request_id)
        case "RESOURCE_EXHAUSTED" if code == QuotaSpent.code:
            message, after_s = f"{where}: {details}", _retry_after(error)
            return QuotaSpent(message, retry_after_s=after_s, request_id=request_id)
        case "INVALID_ARGUMENT":
            return InvalidRequest(f"{where} refused the request: {details}", request_id=request_id)
        case "NOT_FOUND":
            fix = "check the name, or publish a version to it"
            if channel in LAZY_CHANNELS:
                fix = "its deployment has it once `lazy: {}` is in deploy.yaml"
            message = f"{url} has no channel {channel!r}: {details}; {fix}"
            return ChannelNotFound(message, request_id=request_id)
        case "DEADLINE_EXCEEDED":
            message = (
                f"{where} gave no answer within {timeout_s:g} s; allow more, or look at the server's load"
            )
            return DeadlineExceeded(message, request_id=request_id)
        case "UNAVAILABLE":
            return _from_unavailable(details, url, channel, request_id)
    asked = f", request {request_id}" if request_id else ""
    message = f"{where} failed with {status}: {details}; look at the server's log of this time{asked}"
    return ServerError(message, status=status, cause=code, request_id=request_id)


def _retry_after(error: Any) -> float | None:
    """Seconds until a quota is renewed, from the metadata of a refusal."""
    values = dict(error.trailing_metadata() or ())
    return float(values[RETRY_AFTER]) if str(values.get(RETRY_AFTER, "")).isdecimal() else None


def _from_unavailable(details: str, url: str, channel: str, request_id: str | None) -> RequestError:
    """Map an ``UNAVAILABLE`` that no step of quorum sent."""
    where = f"{channel!r} at {url}"
    match meaning_of(details):
        case Meaning.FULL:
            return Overloaded(f"{where} is full: {details}", request_id=request_id)
        case Meaning.NO_CONNECTION:
            message = f"no connection to {url}: {details}; check the address, the server, and TLS (tls=)"
            return Unreachable(message, request_id=request_id)
        case Meaning.KEY_WANTED:
            message = f"{where} requires a key: {details}; pass it with headers="
            return ServerError(message, status="UNAVAILABLE", request_id=request_id)
        case Meaning.NOT_READY:
            message = f"{where} is not available: {details}; try again later"
            return Unavailable(message, request_id=request_id)
    message = f"the call to {where} broke off: {details}; members may have been asked"
    return Disconnected(message, request_id=request_id)


def _read(
    response: Any, attributes: tuple[str, ...], latency_s: float, channel: str, fallback_from: str | None
) -> Extraction:
    raw = outputs_of(response, REQUIRED)
    members = strings(MEMBERS, raw[MEMBERS][1])
    a, n = len(attributes), len(members)
    for tensor in REQUIRED:
        shape, expected = list(raw[tensor.name][0].shape), tensor.sizes(attributes=a, members=n)
        if shape != expected:
            raise ValueError(f"{tensor.name} has shape {shape}, expected {expected}")
    values = strings(VALUES, raw[VALUES][1], a)
    votes = strings(MEMBER_VALUES, raw[MEMBER_VALUES][1], n * a)
    status = [_STATUS.get(code, Status.ERROR) for code in struct.unpack(f"<{n * a}i", raw[MEMBER_STATUS][1])]
    confidence = struct.unpack(f"<{a}f", raw[CONFIDENCE][1])
    if not all(0.0 <= c <= 1.0 for c in confidence):
        raise ValueError(f"{CONFIDENCE} {confidence} is not in [0, 1]")
    scores = _scores(*raw.get(SCORES.name, (None, b"")), attributes=a, members=n)
    decided = _decided(*raw.get(DECIDED.name, (None, b"")), values=values)
    all_votes = [
        Vote(members[at // a], value, code, score)
        if code is Status.ANSWERED
        else Vote(members[at // a], None, code)
        for at, (value, code, score) in enumerate(zip(votes, status, scores, strict=True))
    ]
    answers = tuple(
        Answer(attribute, values[i] or None, confidence[i], tuple(all_votes[i::a]), decided[i])
        for i, attribute in enumerate(attributes)
    )
    (version,) = struct.unpack("<q", raw[WEIGHTS_VERSION][1])
    usage = read_usage(*raw.get(USED.name, (None, b"")), members=members)
    cost = read_cost(*raw.get(PRICED.name, (None, b"")))
    return Extraction(response.id, answers, version, latency_s, channel, fallback_from, cost, usage)


def _scores(output: Any, raw: bytes, *, attributes: int, members: int) -> Sequence[float | None]:
    """Read the score of each vote; no answer fails for its scores, so a tensor without sense has none."""
    count = attributes * members
    expected = (SCORES.datatype, SCORES.sizes(attributes, members), count * 4)
    if output is None or (output.datatype, list(output.shape), len(raw)) != expected:
        return [None] * count
    return [valid_score(number) for number in struct.unpack(f"<{count}f", raw)]


def _decided(output: Any, raw: bytes, *, values: Sequence[str]) -> list[DecisionStatus]:
    """Read why each value is empty; a tensor without sense, or none, says what an empty value says."""
    count = len(values)
    codes: Sequence[int] = [DecisionStatus.NO_ANSWER] * count
    if output is not None and (output.datatype, list(output.shape), len(raw)) == (
        DECIDED.datatype,
        [count],
        count * 4,
    ):
        codes = struct.unpack(f"<{count}i", raw)
    return [
        DecisionStatus.DECIDED if value else _WITHOUT_VALUE.get(code, DecisionStatus.NO_ANSWER)
        for value, code in zip(values, codes, strict=True)
    ]


def strings(name: str, raw: bytes, count: int | None = None) -> list[str]:
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
