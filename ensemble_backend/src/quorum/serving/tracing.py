# SPDX-License-Identifier: Apache-2.0
"""Record what a step did with a traced request, as spans of OpenTelemetry below those of Triton.

Triton decides which requests are traced, and hands a step the context of its own span. Without
``server.traces`` in ``deploy.yaml`` OpenTelemetry is not imported. A thread sends the spans.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from quorum.serving.log import about, is_json, limit_repeats
from quorum.serving.shared_file import own_server
from quorum_contract import Price
from quorum_contract.errors import QuorumError
from quorum_contract.tracing import TRACE_PARENT

logger = logging.getLogger(__name__)

TRACES = "QUORUM_TRACES"
"""Environment variable of a traced server: :class:`TraceSettings` as JSON."""
MISSING = "server.traces needs OpenTelemetry; `pip install 'quorum[otel]'`, or remove the section"
_EXPORT_S, _END_S, _SILENT_S = 3.0, 3.0, 60.0
_MOST_WAITING, _MOST_SENT = 4096, 512
Attributes = Mapping[str, "str | float | Sequence[str] | Sequence[float]"]


class TracingError(QuorumError, RuntimeError):
    """Spans cannot be recorded."""

    code = "TRACING_FAILED"


class TraceSettings(msgspec.Struct, frozen=True):
    """Where spans are sent.

    Attributes:
        url: Of a collector's OTLP over HTTP.
        service: The ``service.name`` of the server.
        flush_s: Seconds between two batches.
        prices: Member -> the fields of its price, as of the start of the server; None: not known.
    """

    url: str
    service: str
    flush_s: float
    prices: dict[str, Price | None] = {}


class Begun(NamedTuple):
    """A request that this step has begun to work on.

    Attributes:
        request_id: Its id, as its caller gave it.
        parent: Triton's span, as a context of OpenTelemetry; None for a request that is not traced.
        started_ns: Since the epoch.
    """

    request_id: str
    parent: Any
    started_ns: int


class Tracing:
    """Follows requests through one step: spans for a collector, and ids for the lines of its log."""

    def __init__(self, settings: TraceSettings | None) -> None:
        self.settings = settings
        self._provider = open_provider(settings) if settings else None
        self._tracer = self._provider.get_tracer("quorum") if self._provider else None

    def begin(self, request: Any) -> Begun:
        """Begin to follow a request of Triton; lines that this thread logs from now on are about it.

        It raises nothing for a trace that cannot be read: the request is not traced.
        """
        request_id, parent, trace_id = request.request_id(), None, ""
        try:
            if self._tracer is not None and (given := _context_of(request)):
                parent, trace_id = _parent_of(given)
        except Exception:
            logger.exception("the trace of a request could not be read")
        about(request_id, trace_id)
        return Begun(request_id, parent, time.time_ns())

    def end(self, begun: Begun, name: str, attributes: Callable[[], tuple[Attributes, str]]) -> None:
        """Record a span from ``begun`` until now, if the request is traced; never raises.

        Args:
            begun: The request.
            name: Of the span.
            attributes: Called for those of the span, and for why the step failed, or "".
        """
        if begun.parent is None or self._tracer is None:
            return
        ended_ns = time.time_ns()
        try:
            given, failure = attributes()
            self._record(begun, name, {"quorum.request_id": begun.request_id, **given}, failure, ended_ns)
        except Exception:
            logger.exception("%s: a span could not be recorded", name)

    def _record(self, begun: Begun, name: str, given: Attributes, failure: str, ended_ns: int) -> None:
        from opentelemetry.trace import Status, StatusCode

        assert self._tracer is not None
        span = self._tracer.start_span(name, begun.parent, attributes=given, start_time=begun.started_ns)
        if failure:
            span.set_status(Status(StatusCode.ERROR, failure))
        span.end(ended_ns)

    def close(self) -> None:
        """Send what waits, for some seconds at most."""
        if self._provider is not None:
            close_provider(self._provider)


def open_tracing() -> Tracing | None:
    """Follow the requests of this process as the supervisor asks for; None: not at all."""
    given = os.environ.get(TRACES)
    if not given:
        return Tracing(None) if is_json() else None
    try:
        return Tracing(msgspec.json.decode(given, type=TraceSettings))
    # A step serves without spans too.
    except Exception:
        logger.exception("no spans are recorded")
        return None


def open_provider(settings: TraceSettings, sampler: Any = None) -> Any:
    """A provider of tracers that sends spans in batches, from a thread.

    Headers, such as a key of the collector, come by the variables that OpenTelemetry defines
    (``OTEL_EXPORTER_OTLP_HEADERS``).

    Raises:
        TracingError: OpenTelemetry is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
    except ImportError as error:
        raise TracingError(MISSING) from error
    # A collector may be away for long.
    limit_repeats("opentelemetry", _SILENT_S)
    resource = Resource.create({"service.name": settings.service, "service.instance.id": own_server()})
    # By default a variable of the environment could turn it off in some processes of a server only.
    by_parent = ParentBased(sampler or ALWAYS_ON)
    provider = TracerProvider(sampler=by_parent, resource=resource, shutdown_on_exit=False)
    processor = BatchSpanProcessor(
        OTLPSpanExporter(settings.url, timeout=_EXPORT_S),
        schedule_delay_millis=settings.flush_s * 1e3,
        max_export_batch_size=_MOST_SENT,
        max_queue_size=_MOST_WAITING,
    )
    provider.add_span_processor(processor)
    return provider


def close_provider(provider: Any) -> None:
    """Send the spans that wait; OpenTelemetry waits half a minute for a collector that is away."""
    ending = threading.Thread(target=provider.shutdown, daemon=True)
    ending.start()
    ending.join(_END_S)


def _context_of(request: Any) -> Mapping[str, str] | None:
    """The headers of the span that a step goes on from: Triton's, or its caller's where Triton lost those."""
    given, parameters = request.trace().get_context(), request.parameters()
    caller = json.loads(parameters).get(TRACE_PARENT, "") if TRACE_PARENT in parameters else ""
    own: dict[str, str] | None = json.loads(given) if given else None
    if not isinstance(caller, str) or not caller:
        return own
    # By its share it may also trace such a request, in a trace of its own.
    is_caller_s = own is not None and own["traceparent"].split("-")[1] in caller
    return own if is_caller_s else {"traceparent": caller}


def _parent_of(headers: Mapping[str, str]) -> tuple[Any, str]:
    """The context of OpenTelemetry, and its trace id, of the span that a step goes on from."""
    from opentelemetry.trace import get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract(headers)
    span = get_current_span(context).get_span_context()
    return (context, f"{span.trace_id:032x}") if span.is_valid else (None, "")
