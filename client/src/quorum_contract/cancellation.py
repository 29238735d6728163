# SPDX-License-Identifier: Apache-2.0
"""A caller that waits no longer: a request parameter that the gate reads."""

from __future__ import annotations

CANCEL = "quorum_cancel"
"""Name of the request parameter, a string: the id of an earlier request whose caller has gone.

A request with it asks no member. It needs the three tensors of a question, whose contents are not read, and
is always refused, with the code ``CANCELLED``. A caller who knows the id of a request can cancel it.
"""
