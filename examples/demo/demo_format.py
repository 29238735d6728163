# SPDX-License-Identifier: Apache-2.0
"""Format prompts and answers of the demo models: the same in training and in serving."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence


def bare_prompt(attributes: Sequence[str], category: str, text: str) -> str:
    """The prompt of style "bare": asked attributes, category and text, one line each."""
    return ", ".join(attributes) + "\n" + category + "\n" + " ".join(text.split()) + "\n"


def answer_json(attributes: Sequence[str], gold: Mapping[str, Sequence[str]]) -> str:
    """Compact JSON of the preferred gold values, in the asked order."""
    return json.dumps({name: gold[name][0] for name in attributes}, ensure_ascii=False, separators=(",", ":"))
