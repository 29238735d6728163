# SPDX-License-Identifier: Apache-2.0
"""The context of a trace, as a request parameter that the steps read where Triton has lost the header."""

from __future__ import annotations

TRACE_PARENT = "quorum_traceparent"
"""Name of the request parameter, a string: what the header ``traceparent`` of W3C Trace Context holds.

Triton 2.51 misreads that header of some gRPC requests, a few in a hundred, and does not trace them below it.
"""
