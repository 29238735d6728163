# SPDX-License-Identifier: Apache-2.0
"""Have a server traced: options for Triton, settings for its steps, and spans of a hop before it.

Triton traces each request that brings a ``traceparent``, also where its flag says that the caller does not
sample it. Who sends requests on must therefore leave such a header out.
"""

from __future__ import annotations

from importlib.util import find_spec

import msgspec

from quorum.deployment.schema import Deployment
from quorum.deployment.server import TracesSpec
from quorum.serving.tracing import MISSING, TRACES, TraceSettings, TracingError

_PACKAGE = "opentelemetry.exporter.otlp.proto.http"


def check(spec: TracesSpec | None) -> None:
    """Raise TracingError if spans are wanted and OpenTelemetry is not installed."""
    if spec is None:
        return
    try:
        package = find_spec(_PACKAGE)
    except ModuleNotFoundError:
        package = None
    if package is None:
        raise TracingError(MISSING)


def options(spec: TracesSpec | None) -> list[str]:
    """Triton's command line for traces."""
    if spec is None:
        return []
    settings = [
        "mode=opentelemetry",
        f"rate={spec.rate}",
        "level=TIMESTAMPS",
        f"opentelemetry,url={spec.url}",
        f"opentelemetry,resource=service.name={spec.service}",
        f"opentelemetry,bsp_schedule_delay={int(spec.flush_s * 1e3)}",
    ]
    return [f"--trace-config={setting}" for setting in settings]


def variables(spec: Deployment) -> dict[str, str]:
    """Variables of the environment that tell steps where to send spans."""
    place = spec.server.traces
    if place is None:
        return {TRACES: ""}
    settings = TraceSettings(place.url, place.service, place.flush_s, dict(spec.prices))
    return {TRACES: msgspec.json.encode(settings).decode()}
