# SPDX-License-Identifier: Apache-2.0
"""Find how answers of a kind are scored."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from quorum.decision.answer_kinds import AnswerKind
from quorum.evaluation.kinds.base import KindScores
from quorum.evaluation.kinds.label import LABEL
from quorum.evaluation.kinds.sets import SPANS, VALUES
from quorum.evaluation.kinds.text import TEXT
from quorum.evaluation.kinds.value import VALUE

KINDS: Mapping[AnswerKind, KindScores] = MappingProxyType(
    {"value": VALUE, "label": LABEL, "spans": SPANS, "values": VALUES, "text": TEXT}
)
