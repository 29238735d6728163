# SPDX-License-Identifier: Apache-2.0
"""Triton's own module exists only inside its stub process; the parts that need no server run without it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest


@dataclass
class Tensor:
    name: str
    array: Any


@dataclass
class InferenceResponse:
    output_tensors: list[Tensor]


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes ``quorum.serving.member``, ``reply`` and ``vote`` importable for one test."""
    stub = ModuleType("triton_python_backend_utils")
    vars(stub).update(
        Tensor=Tensor, InferenceResponse=InferenceResponse, TRITONSERVER_RESPONSE_COMPLETE_FINAL=1
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", stub)
    for name in ("member", "reply", "tensors", "vote"):
        monkeypatch.delitem(sys.modules, f"quorum.serving.{name}", raising=False)
