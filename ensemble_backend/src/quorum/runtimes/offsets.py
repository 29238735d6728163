# SPDX-License-Identifier: Apache-2.0
"""Find the characters that each token of an answer ends at, for any kind of tokenizer.

The text of a token can depend on those before it: a space is dropped at the start (SentencePiece), words are
joined by spaces (WordPiece), a character is spread over tokens (byte-level BPE, byte fallback). So the text
of each token after another one is kept by its id, and tokens that make characters only together are decoded
together. Where these texts do not join to the answer's, every prefix of the answer is decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from os.path import commonpath

_INCOMPLETE = "\ufffd"
_KEPT = 4096

Decode = Callable[[Sequence[int]], str]
"""Decodes tokens to text, without special ones."""


class TokenEnds:
    """Finds the ends of tokens in texts of one tokenizer; safe to use from several threads."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._laters: dict[int, str] = {}
        # Tokens and their text, after which others are decoded.
        self._anchor: tuple[tuple[int, ...], str] | None = None
        self._first = lru_cache(maxsize=_KEPT)(self._decode)
        self._run_ends = lru_cache(maxsize=_KEPT)(self._ends_in_run)

    def find(self, tokens: Sequence[int], text: str) -> list[int]:
        """Find the number of characters of a text up to and with each of its tokens.

        A character of several tokens ends with the last of them.

        Args:
            tokens: (t,) of the text.
            text: What they decode to.

        Returns:
            (t,) ends, never falling; empty if the text is not what the tokens decode to.
        """
        pieces = self._pieces(tokens)
        if pieces is not None:
            joined = "".join(pieces)
            if joined == text and _INCOMPLETE not in text:
                return list(accumulate(map(len, pieces)))
            if _INCOMPLETE in joined and (ends := self._ends_by_runs(tokens, pieces, text)):
                return ends
        return self._ends_by_prefixes(tokens, text)

    def _pieces(self, tokens: Sequence[int]) -> list[str] | None:
        """The text of each token; None if one has none that can be told."""
        if not tokens:
            return None
        # The first token may have no text: a special one, or a space that is dropped.
        count = 1
        while not (text := self._first(tuple(tokens[:count]))) and count < len(tokens):
            count += 1
        if self._anchor is None and text and _INCOMPLETE not in text:
            self._anchor = tuple(tokens[:count]), text
        pieces, laters = [""] * (count - 1) + [text], self._laters
        for token in tokens[count:]:
            piece = laters.get(token)
            if piece is None:
                piece = self._after_anchor((token,))
                if piece is None:
                    return None
                laters[token] = piece
            pieces.append(piece)
        return pieces

    def _after_anchor(self, tokens: Sequence[int]) -> str | None:
        if self._anchor is None:
            return None
        anchor, text = self._anchor
        both = self._decode((*anchor, *tokens))
        return both[len(text) :] if both.startswith(text) else None

    def _ends_by_runs(self, tokens: Sequence[int], pieces: Sequence[str], text: str) -> list[int]:
        """The ends, with adjacent tokens of incomplete characters decoded together; empty: no fit."""
        ends: list[int] = []
        place = at = 0
        while at < len(tokens):
            start = at
            while at < len(tokens) and _INCOMPLETE in pieces[at]:
                at += 1
            if at > start:
                run, inner = self._run_ends(tuple(tokens[start:at]), start > 0)
            else:
                run, inner, at = pieces[at], (len(pieces[at]),), at + 1
            if not text.startswith(run, place):
                return []
            ends += [place + end for end in inner]
            place += len(run)
        return ends if place == len(text) else []

    def _ends_in_run(self, tokens: tuple[int, ...], is_later: bool) -> tuple[str, tuple[int, ...]]:
        """The text of tokens and their ends in it."""
        decode: Callable[[Sequence[int]], str | None] = self._after_anchor if is_later else self._decode
        text = decode(tokens) or ""
        prefixes = (decode(tokens[: count + 1]) or "" for count in range(len(tokens)))
        return text, tuple(accumulate((_shared(prefix, text) for prefix in prefixes), max))

    def _ends_by_prefixes(self, tokens: Sequence[int], text: str) -> list[int]:
        if not tokens or self._decode(tokens) != text:
            return []
        prefixes = (self._decode(tokens[: count + 1]) for count in range(len(tokens)))
        return list(accumulate((_shared(prefix, text) for prefix in prefixes), max))


def _shared(prefix: str, text: str) -> int:
    """How many characters two texts begin with alike."""
    return len(prefix) if text.startswith(prefix) else len(commonpath([prefix, text]))
