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

_INCOMPLETE = "\ufffd"
_KEPT = 4096

Decode = Callable[[list[list[int]]], list[str]]
"""Decodes each of several lists of tokens to text, without special ones."""


class TokenEnds:
    """Finds the ends of tokens in texts of one tokenizer; safe to use from several threads."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._laters: dict[int, str] = {}
        # Tokens and their text, after which others are decoded.
        self._anchor: tuple[list[int], str] = [], ""
        self._first = lru_cache(maxsize=_KEPT)(self._text_of)
        self._run_ends = lru_cache(maxsize=_KEPT)(self._ends_of_run)

    def find(self, tokens: Sequence[int], text: str) -> list[int]:
        """Find the number of characters of a text up to and with each of its tokens.

        A character of several tokens ends with the last of them.

        Args:
            tokens: (t,) of the text.
            text: What they decode to.

        Returns:
            (t,) ends, never falling; empty if the text is not what the tokens decode to.
        """
        if not tokens:
            return []
        pieces = self._pieces(tokens)
        if pieces is not None:
            joined = "".join(pieces)
            if joined == text and _INCOMPLETE not in text:
                return list(accumulate(map(len, pieces)))
            if _INCOMPLETE in joined and (ends := self._ends_by_runs(tokens, pieces, text)):
                return ends
        return self._ends_by_prefixes(tokens, text)

    def join(self, tokens: Sequence[int]) -> str | None:
        """Join the texts of single tokens; None where a character is spread over several.

        It is what the tokens decode to if the tokenizer does nothing but join the bytes of tokens.
        """
        text = "".join(self._pieces(tokens) or [_INCOMPLETE]) if tokens else ""
        return None if _INCOMPLETE in text else text

    def _pieces(self, tokens: Sequence[int]) -> list[str] | None:
        """The text of each token; None if one has none that can be told."""
        # The first token may have no text: a special one, or a space that is dropped.
        count = 1
        while not (text := self._first(tuple(tokens[:count]))) and count < len(tokens):
            count += 1
        if not self._anchor[0] and text and _INCOMPLETE not in text:
            self._anchor = list(tokens[:count]), text
        later = tokens[count:]
        missing = list(set(later).difference(self._laters))
        if missing:
            found = self._after_anchor([[token] for token in missing])
            if found is None:
                return None
            self._laters.update(zip(missing, found, strict=True))
        return [*[""] * (count - 1), text, *map(self._laters.__getitem__, later)]

    def _text_of(self, tokens: tuple[int, ...]) -> str:
        return self._decode([list(tokens)])[0]

    def _after_anchor(self, lists: list[list[int]]) -> list[str] | None:
        """The texts of lists of tokens that stand after others; None if that cannot be told."""
        anchor, text = self._anchor
        if not anchor:
            return None
        both = self._decode([[*anchor, *tokens] for tokens in lists])
        return [one[len(text) :] for one in both] if all(one.startswith(text) for one in both) else None

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

    def _ends_of_run(self, tokens: tuple[int, ...], is_later: bool) -> tuple[str, tuple[int, ...]]:
        """The text of tokens and their ends in it."""
        prefixes = _prefixes(tokens)
        texts = (self._after_anchor(prefixes) if is_later else self._decode(prefixes)) or [""] * len(tokens)
        return texts[-1], tuple(_ends_in(texts[-1], texts))

    def _ends_by_prefixes(self, tokens: Sequence[int], text: str) -> list[int]:
        texts = self._decode(_prefixes(tokens))
        return _ends_in(text, texts) if texts[-1] == text else []


def _prefixes(tokens: Sequence[int]) -> list[list[int]]:
    return [list(tokens[: count + 1]) for count in range(len(tokens))]


def _ends_in(text: str, prefixes: Sequence[str]) -> list[int]:
    """How many characters of a text each of the growing prefixes has, never falling."""
    return list(accumulate((_shared(prefix, text) for prefix in prefixes), max))


def _shared(prefix: str, text: str) -> int:
    """How many characters two texts begin with alike."""
    if text.startswith(prefix):
        return len(prefix)
    pairs = enumerate(zip(prefix, text, strict=False))
    return next((place for place, (one, other) in pairs if one != other), len(text))
