# SPDX-License-Identifier: Apache-2.0
"""Heads of encoders: the target of each, and its loss."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from quorum.runtimes.heads import HeadKind
from quorum.tune.heads.base import HeadTuning, Target
from quorum.tune.heads.label import LABEL
from quorum.tune.heads.spans import SPANS
from quorum.tune.heads.value import VALUE

TUNINGS: Mapping[HeadKind, HeadTuning] = MappingProxyType({"label": LABEL, "spans": SPANS, "value": VALUE})

__all__ = ["TUNINGS", "HeadTuning", "Target"]
