# SPDX-License-Identifier: Apache-2.0
"""What people should know of a student, and the lines that make its cross-encoder a member."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from quorum.distill.options import DistillOptions
from quorum.tasks.default import Default

_FEW = 30
"""With fewer held-out keyphrases, intervals are wide."""
RECALL_LOST, INT8_LOST = 0.02, 0.005


def remarks_on(
    figures: Mapping[str, Any], left_out: Mapping[str, int], tasks: Collection[str], options: DistillOptions
) -> Iterator[str]:
    """Yield remarks.

    Args:
        figures: Of the student's manifest.
        left_out: What of the sources was not learned, in words -> rows.
        tasks: Learned.
        options: Of the run.
    """
    if figures["queries"] < _FEW:
        yield f"{figures['queries']} held-out keyphrases: the intervals are wide"
    for size, change in figures["over_zero_shot"].items():
        recall = change.get("recall")
        if recall and recall["value"] < -RECALL_LOST:
            yield (
                f"at {size} dimensions recall of keyphrases is {-recall['value']:.1%} below the untrained"
                " base: agreement was bought with retrieval; try the adapter, or more --keyphrases"
            )
        if _value(change, "pearson") < 0:
            yield f"at {size} dimensions it agrees less with the judge than the untrained base"
    assistant = figures.get("cross-encoder")
    if assistant and _value(assistant, "auc") < _value(next(iter(figures["zero_shot"].values())), "auc"):
        yield "the cross-encoder is worse than the untrained base on held-out keyphrases; try --direct"
    lost = -_value(figures["int8_less_float32"], "auc")
    if lost > INT8_LOST:
        yield f"in int8 AUC is {lost:.3f} lower: serve it in float32"
    if "judge" in tasks:
        yield "random pairs of items and keyphrases are learned as irrelevant, though they were not judged"
    if "clicks" in tasks:
        yield (
            f"clicks are debiased under the assumption that position p is looked at with chance"
            f" 1 / p ** {options.position_bias:g}; pairs that were never shown are not learned"
        )
    if left_out:
        yield "left out: " + ", ".join(f"{count} {what}" for what, count in left_out.items())


def _value(figures: Mapping[str, Any], name: str) -> float:
    value = figures.get(name, {}).get("value")
    return float("nan") if value is None else float(value)


def member_of(asked: Default, folder: Path) -> str:
    """YAML of the question and the member, for ``deploy.yaml``."""
    question = {name: value for name, value in asked.to_json().items() if value}
    member = {"name": "cross-encoder", "runtime": "encoder", "options": {"model": str(folder)}}
    content = {"default": question, "members": [member]}
    text: str = yaml.safe_dump(
        content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=1000
    )
    return text
