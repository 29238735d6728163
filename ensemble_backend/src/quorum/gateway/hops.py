# SPDX-License-Identifier: Apache-2.0
"""Trace the requests of a gateway: a span for each, and the headers with which it goes on to Triton.

Triton traces each request that brings a ``traceparent``, also where its flag says that the caller does not
sample it. So such a header goes on only for requests that are sampled, and from callers that are trusted.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc.aio

from quorum.gateway.settings import Traces
from quorum.serving.tracing import TraceSettings, close_provider, open_provider
from quorum_contract.errors import QuorumError, take_code
from quorum_contract.tracing import TRACE_PARENT, TRACEPARENT, TRACESTATE

_SAMPLED = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][13579bdf]")
# The shortest that the standard wants passed on; Triton refuses headers of some kilobytes.
_LONGEST = 512
Metadata = Iterable[tuple[str, str | bytes]]


class Hop:
    """One request on its way.

    Attributes:
        metadata: Headers that go on with it, as gRPC takes them.
        trace_id: For log lines; empty for a request that is not sampled.
    """

    def __init__(self, metadata: Mapping[str, str], span: Any = None) -> None:
        self.metadata = tuple(metadata.items())
        parts = metadata.get(TRACEPARENT, "").split("-")
        self.trace_id = parts[1] if len(parts) > 1 else ""
        self._span = span

    def message(self, raw: bytes) -> bytes:
        """A serialised ``ModelInferRequest`` with the context as its parameter too, which steps read.

        Protobuf merges messages that follow each other, so that it is not parsed.
        """
        for name, value in self.metadata:
            if name == TRACEPARENT:
                from tritonclient.grpc import service_pb2 as pb

                added = pb.ModelInferRequest()
                added.parameters[TRACE_PARENT].string_param = value
                return raw + bytes(added.SerializeToString())
        return raw

    def set(self, name: str, value: str | float) -> None:
        """Set an attribute of its span."""
        if self._span is not None:
            self._span.set_attribute(name, value)

    def failed(self, code: str, message: str) -> None:
        """Note that it failed, by the code of an error or a status."""
        if self._span is None:
            return
        from opentelemetry.trace import Status, StatusCode

        self._span.set_attribute("error.type", code)
        self._span.set_status(Status(StatusCode.ERROR, message))


class Hops:
    """Traces the requests of this process.

    Args:
        settings: Where spans are sent; None: no spans, and headers of trusted callers go on.
        trusts_callers: Whether a caller's ``traceparent`` is followed. Of strangers' requests a share is
            traced, each a trace of its own: they could have all of theirs traced.

    Raises:
        TracingError: OpenTelemetry is not installed.
    """

    def __init__(self, settings: Traces | None, *, trusts_callers: bool) -> None:
        self._trusts_callers = trusts_callers
        self._provider: Any = None
        if settings is not None:
            from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

            place = TraceSettings(settings.url, settings.service, settings.flush_s)
            self._provider = open_provider(place, TraceIdRatioBased(settings.share))
            self._tracer = self._provider.get_tracer("quorum")

    @contextmanager
    def hop(self, name: str, metadata: Metadata) -> Iterator[Hop]:
        """Trace one request during a ``with`` block; an exception that leaves it is an error of its span.

        Args:
            name: Of the span, such as the method that was called.
            metadata: The caller's headers.
        """
        given = _trace_headers(metadata) if self._trusts_callers else {}
        if self._provider is None:
            yield Hop(given if _SAMPLED.fullmatch(given.get(TRACEPARENT, "")) else {})
            return
        from opentelemetry.trace import SpanKind, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        propagator = TraceContextTextMapPropagator()
        parent = propagator.extract(given)
        span = self._tracer.start_span(name, parent, kind=SpanKind.SERVER)
        headers: dict[str, str] = {}
        if span.get_span_context().trace_flags.sampled:
            propagator.inject(headers, set_span_in_context(span, parent))
        hop = Hop(headers, span)
        try:
            yield hop
        except (Exception, asyncio.CancelledError) as error:
            hop.failed(*_reason(error))
            raise
        finally:
            span.end()

    def close(self) -> None:
        """Send the spans that wait, for some seconds at most."""
        if self._provider is not None:
            close_provider(self._provider)


def _reason(error: BaseException) -> tuple[str, str]:
    """Code and message of an error."""
    if isinstance(error, QuorumError):
        return error.code, str(error)
    if isinstance(error, grpc.aio.AioRpcError):
        message, code = take_code(error.details() or "")
        return code or error.code().name, message
    if isinstance(error, asyncio.CancelledError):
        return "CANCELLED", "the caller has gone"
    return type(error).__name__, str(error)


def _trace_headers(metadata: Metadata) -> dict[str, str]:
    """The headers of W3C Trace Context; none where there are several of one name."""
    entries = [(name, value) for name, value in metadata if name in (TRACEPARENT, TRACESTATE)]
    given = {name: value for name, value in entries if isinstance(value, str) and _goes_on(value)}
    return given if len({name for name, _ in entries}) == len(entries) else {}


def _goes_on(value: str) -> bool:
    """Whether gRPC and Triton take it as a header."""
    return value.isascii() and value.isprintable() and len(value) <= _LONGEST
