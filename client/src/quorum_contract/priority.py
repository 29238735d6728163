# SPDX-License-Identifier: Apache-2.0
"""How urgent a request is: a request parameter that the gate reads."""

from __future__ import annotations

from typing import Literal

PRIORITY = "quorum_priority"
"""Name of the request parameter, a string; Triton keeps ``priority`` for numbers of its own."""

INTERACTIVE: Literal["interactive"] = "interactive"
"""Somebody waits for the answer; also the meaning of a request without the parameter."""

BULK: Literal["bulk"] = "bulk"
"""One of many that can wait: admitted only while few requests of any kind are inside."""

Priority = Literal["interactive", "bulk"]
PRIORITIES: tuple[Priority, ...] = (INTERACTIVE, BULK)
