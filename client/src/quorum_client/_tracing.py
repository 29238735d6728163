# SPDX-License-Identifier: Apache-2.0
"""Spans of OpenTelemetry for the calls of a client, and the ``traceparent`` that servers go on from.

A call is a span, and each server that it is sent to a child span, whose context travels with the request. The
package ``opentelemetry-api`` is imported by a client with ``traces=True`` only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from quorum_client import _wire
from quorum_client._call import Call, Metadata
from quorum_client._routing import RECOMMENDING
from quorum_client.errors import InvalidRequest
from quorum_contract.tracing import TRACEPARENT, TRACESTATE

if TYPE_CHECKING:
    from quorum_client._servers import Server

P = TypeVar("P")
R = TypeVar("R")


class Tracer:
    """Begins the spans of a client's calls, by the tracer provider of the process.

    Raises:
        InvalidRequest: OpenTelemetry is not installed.
    """

    def __init__(self) -> None:
        try:
            from opentelemetry import context, trace
            from opentelemetry.trace.propagation import tracecontext
        except ImportError as error:
            raise InvalidRequest(
                "traces: True needs OpenTelemetry; `pip install 'quorum-client[otel]'`, or leave it out"
            ) from error
        self.trace, self.context = trace, context
        self.propagator = tracecontext.TraceContextTextMapPropagator()
        self.tracer = trace.get_tracer("quorum_client")

    def begin(self, call: Call[Any]) -> CallTrace:
        """Begin the span of a call, below the caller's current one, or the ``traceparent`` in its headers."""
        return CallTrace(self, call)

    def carried(self, function: Callable[[P], R]) -> Callable[[P], R]:
        """``function`` for other threads, with the current span of this one."""
        current = self.context.get_current()

        def run(argument: P) -> R:
            token = self.context.attach(current)
            try:
                return function(argument)
            finally:
                self.context.detach(token)

        return run


class CallTrace:
    """The spans of one call."""

    def __init__(self, tracer: Tracer, call: Call[Any]) -> None:
        self._tracer = tracer
        given = dict(call.metadata)
        parent = tracer.propagator.extract(given) if TRACEPARENT in given else None
        name = "quorum recommend" if call.channels == RECOMMENDING else "quorum extract"
        attributes = {"quorum.channel": call.channel, "quorum.request_id": call.request_id}
        self._span = tracer.tracer.start_span(name, parent, attributes=attributes)
        self._parent = tracer.trace.set_span_in_context(self._span, parent)
        self._asking: dict[Server, Any] = {}

    def sent(self, server: Server, channel: str, *, hedges: bool = False) -> None:
        """Begin the span of a request to a server; ``hedges``: while another works on the same."""
        attributes: dict[str, Any] = {
            "server.address": server.url,
            "quorum.channel": channel,
            "quorum.hedge": hedges,
        }
        self._asking[server] = self._tracer.tracer.start_span(
            "quorum request", self._parent, kind=self._tracer.trace.SpanKind.CLIENT, attributes=attributes
        )

    def metadata(self, server: Server, call: Call[Any]) -> Metadata:
        """The headers for a server, without a ``traceparent`` where the call is not sampled.

        Triton traces every request with one, whatever its flag says. The message gets it too.
        """
        metadata = call.metadata
        kept = tuple((name, value) for name, value in metadata if name not in (TRACEPARENT, TRACESTATE))
        span = self._asking[server]
        if not span.get_span_context().trace_flags.sampled:
            return kept
        own: dict[str, str] = {}
        self._tracer.propagator.inject(own, self._tracer.trace.set_span_in_context(span, self._parent))
        _wire.set_trace_parent(call.message, own[TRACEPARENT])
        return (*kept, *own.items())

    def answered(self, server: Server) -> None:
        """Note that a server's answer is the one that is used."""
        self._asking[server].set_attribute("quorum.used", True)

    def lost(self, server: Server, error: Exception) -> None:
        """Note that a request failed."""
        self._fail(self._asking[server], error)

    def ended(self, server: Server) -> None:
        """End the span of a request; one that is neither answered nor lost was not waited for."""
        if (span := self._asking.pop(server, None)) is not None:
            span.end()

    def note(self, event: str, **attributes: str | float) -> None:
        """Add an event to the span of the call."""
        self._span.add_event(event, {f"quorum.{name}": value for name, value in attributes.items()})

    def failed(self, error: BaseException) -> None:
        """Note why the call has no result."""
        self._fail(self._span, error)

    def end(self, result: Any) -> None:
        """End the span of the call."""
        for name in ("weights_version", "retriever_version", "channel", "cost"):
            if (value := getattr(result, name, None)) is not None:
                self._span.set_attribute(f"quorum.{name}", value)
        self._span.end()

    def _fail(self, span: Any, error: BaseException) -> None:
        trace = self._tracer.trace
        span.set_attribute("error.type", getattr(error, "code", type(error).__qualname__))
        span.set_status(trace.Status(trace.StatusCode.ERROR, str(error)))
