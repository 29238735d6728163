# SPDX-License-Identifier: Apache-2.0
"""Notice, while a text comes in, that the JSON object that was asked for is complete."""

from __future__ import annotations

import json
import re
from collections.abc import Collection

_OUTSIDE = re.compile(r'["{}]')
_IN_TEXT = re.compile(r'["\\]')


class Closing:
    """Reads a text piece by piece, each character once.

    Args:
        keys: What an object must have to be the answer: an LLM may write another one first.
    """

    def __init__(self, keys: Collection[str]) -> None:
        self._keys = frozenset(keys)
        self._object: list[str] = []
        self._depth = 0
        self._in_text = self._is_escaped = False
        self.is_complete = False

    def add(self, piece: str) -> bool:
        """Add what follows; returns whether an object with all keys has been closed by now."""
        start = at = 0
        while not self.is_complete:
            if self._is_escaped and at < len(piece):
                self._is_escaped = False
                at += 1
            mark = (_IN_TEXT if self._in_text else _OUTSIDE).search(piece, at)
            if mark is None:
                break
            at = mark.end()
            match mark.group():
                case "\\":
                    self._is_escaped = True
                case '"':
                    # Quotes of a text around the object are no JSON.
                    self._in_text = not self._in_text and self._depth > 0
                case "{":
                    start = start if self._depth else mark.start()
                    self._depth += 1
                case _ if self._depth:
                    self._depth -= 1
                    if not self._depth:
                        self._object.append(piece[start:at])
                        self._close()
        if self._depth:
            self._object.append(piece[start:])
        return self.is_complete

    def _close(self) -> None:
        try:
            value = json.loads("".join(self._object), strict=False)
        except (ValueError, RecursionError):
            value = None
        self._object.clear()
        self.is_complete = isinstance(value, dict) and self._keys <= value.keys()
