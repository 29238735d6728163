# SPDX-License-Identifier: Apache-2.0
"""Prompt and answer of the demo models: what they are trained on is what the server sends them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence


def bare_prompt(attributes: Sequence[str], category: str, text: str) -> str:
    """The prompt of style "bare": asked attributes, category, text, a line each."""
    return ", ".join(attributes) + "\n" + category + "\n" + " ".join(text.split()) + "\n"


def answer_json(attributes: Sequence[str], gold: Mapping[str, Sequence[str]]) -> str:
    """Compact JSON of the preferred gold values, in the asked order."""
    return json.dumps({name: gold[name][0] for name in attributes}, ensure_ascii=False, separators=(",", ":"))
