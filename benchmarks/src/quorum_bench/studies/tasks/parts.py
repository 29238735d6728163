# SPDX-License-Identifier: Apache-2.0
"""The parts of the study by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from quorum_bench.studies.tasks import members, merging, self_teaching, size, voting, zero_shot
from quorum_bench.studies.tasks.inputs import Inputs, Row


class Part(NamedTuple):
    """One part.

    Attributes:
        title: What it measures.
        head: Of its table.
        rows: Yields its rows as they are known.
        line: A row as a line of the table.
    """

    title: str
    head: str
    rows: Callable[[Inputs], Iterator[Row]]
    line: Callable[[Row], str]


PARTS: Mapping[str, Part] = {
    "zero-shot": Part(
        "AE-110K, 1 482 cells of 524 products: an encoder tuned on other products; recorded LLMs that saw "
        "ten examples",
        zero_shot.HEAD,
        zero_shot.rows,
        zero_shot.line,
    ),
    "members": Part(
        "AE-110K: the encoder as a sixth member, served with the five recorded LLMs on a tritonserver; "
        "weights learned, cross-validated",
        members.HEAD,
        members.rows,
        members.line,
    ),
    "self-teaching": Part(
        "AE-110K: an encoder tuned on the ensemble's own confident answers, and one tuned on gold",
        self_teaching.HEAD,
        self_teaching.rows,
        self_teaching.line,
    ),
    "size": Part(
        "QueryNER, and relevance as a stand-in for ESCI: encoders and an LLM by rows to tune on",
        size.HEAD,
        size.rows,
        size.line,
    ),
    "vote": Part(
        "Votes on spans, labels and texts: best member, majority, learned weights (cross-validated)",
        voting.HEAD,
        voting.rows,
        voting.line,
    ),
    "merge": Part(
        "Adapters of QueryNER and relevance: single, one on both, merged; not guided and guided",
        merging.HEAD,
        merging.rows,
        merging.line,
    ),
}
