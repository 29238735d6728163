# SPDX-License-Identifier: Apache-2.0
r"""Convert the answer's JSON schema to a regular expression, for guided decoding.

Grammar engines allow white space in a JSON schema and spell ``n/a`` as ``n\/a``; the expression allows only
the compact spelling of :func:`json.dumps`, which fine-tuned models learned.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

_SPECIAL = re.compile(r"([\\.^$|?*+()\[\]{}/-])")
_OPEN_CHARACTER = r'([^"\\\x00-\x1f]|\\["\\])'


@lru_cache(maxsize=1024)
def answer_pattern(schema: str, *, bounded: bool = False) -> str:
    """A pattern of the compact JSON that ``schema`` allows, without look-around, anchors or named groups.

    Args:
        schema: :func:`quorum.tasks.kinds.answer_schema`, as JSON text.
        bounded: Whether open values keep the schema's ``maxLength``. Only for engines that count cheaply:
            OpenVINO GenAI takes 50 ms to compile a counted repetition, and 0.4 ms without the bound.
    """
    properties: dict[str, dict[str, Any]] = json.loads(schema)["properties"]
    pairs = (f'"{_literal(name)}":{_value(spec, bounded)}' for name, spec in properties.items())
    return r"\{" + ",".join(pairs) + r"\}"


def _value(spec: dict[str, Any], bounded: bool) -> str:
    if "prefixItems" in spec:
        return r"\[" + ",".join(_value(item, bounded) for item in spec["prefixItems"]) + r"\]"
    if spec["type"] == "array":
        item = _value(spec["items"], bounded)
        most = f"{{0,{spec['maxItems'] - 1}}}" if bounded else "*"
        return rf"\[({item}(,{item}){most})?\]"
    if "enum" in spec:
        return '"(' + "|".join(_literal(value) for value in spec["enum"]) + ')"'
    return f'"{_OPEN_CHARACTER}' + (f'{{1,{spec["maxLength"]}}}"' if bounded else '+"')


def _literal(text: str) -> str:
    # Not re.escape: the grammar engine knows only these escapes.
    return _SPECIAL.sub(r"\\\1", json.dumps(text, ensure_ascii=False)[1:-1])
