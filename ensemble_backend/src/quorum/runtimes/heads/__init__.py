# SPDX-License-Identifier: Apache-2.0
"""Heads of encoders: how each reads a text, and what its logits answer."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from quorum.runtimes.heads.base import Answer, Codec, Encoded, HeadKind, Ids, Logits
from quorum.runtimes.heads.label import LabelCodec
from quorum.runtimes.heads.spans import SpansCodec
from quorum.runtimes.heads.value import ValueCodec

CODECS: Mapping[HeadKind, type[Codec]] = MappingProxyType(
    {"label": LabelCodec, "spans": SpansCodec, "value": ValueCodec}
)

__all__ = ["CODECS", "Answer", "Codec", "Encoded", "HeadKind", "Ids", "Logits"]
