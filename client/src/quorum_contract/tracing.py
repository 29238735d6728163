# SPDX-License-Identifier: Apache-2.0
"""The context of a trace: its headers, and a request parameter for steps where Triton has lost them."""

from __future__ import annotations

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
"""Headers of W3C Trace Context."""
TRACE_PARENT = "quorum_traceparent"
"""Name of the request parameter, a string: what the header ``traceparent`` of W3C Trace Context holds.

Triton 2.51 misreads that header of some gRPC requests, a few in a hundred, and does not trace them below it.
"""
