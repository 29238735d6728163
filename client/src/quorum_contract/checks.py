# SPDX-License-Identifier: Apache-2.0
"""Check, encode and decode what a request brings: texts, and the numbers of a recommendation.

The client encodes, the gate decodes; both refuse the same requests with the same messages.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from quorum_contract.errors import InvalidRequest
from quorum_contract.tensors import ATTRIBUTES, CATEGORY, LIMIT, MIN_SCORE, TEXT

MAX_TEXT_BYTES = 32_768
MAX_CATEGORY_BYTES = 256
MAX_ATTRIBUTES = 64
MAX_ATTRIBUTE_BYTES = 128
MAX_LIMIT = 100
"""The most keyphrases that one request may ask for."""
_INVISIBLE = frozenset({"Cc", "Cf", "Mn"})
"""Controls, formats (U+200B, U+FEFF) and marks, which alone show nothing."""
_FILLERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and a symbol that are blank."""


def encode_text(text: object) -> bytes:
    """Encode the product text as UTF-8.

    Raises:
        InvalidRequest: Not a str, too long, or blank.
    """
    raw = encode(text, TEXT, MAX_TEXT_BYTES)
    _check_text(str(text))
    return raw


def decode_text(raw: object) -> str:
    """Inverse of :func:`encode_text`.

    Raises:
        InvalidRequest: Not UTF-8, too long, or blank.
    """
    text = decode(raw, TEXT, MAX_TEXT_BYTES)
    _check_text(text)
    return text


def encode_category(category: object) -> bytes:
    """Encode the product category as UTF-8; may be empty.

    Raises:
        InvalidRequest: Not a str, or too long.
    """
    return encode(category, CATEGORY, MAX_CATEGORY_BYTES)


def decode_category(raw: object) -> str:
    """Inverse of :func:`encode_category`.

    Raises:
        InvalidRequest: Not UTF-8, or too long.
    """
    return decode(raw, CATEGORY, MAX_CATEGORY_BYTES)


def encode_attributes(attributes: object) -> list[bytes]:
    """Encode the attribute names as UTF-8.

    Raises:
        InvalidRequest: Not a list of str, or names that :func:`check_names` refuses.
    """
    if isinstance(attributes, str | bytes) or not isinstance(attributes, Sequence):
        raise InvalidRequest(f"{ATTRIBUTES}: a {type(attributes).__name__}; give a list of names")
    _check_count(len(attributes))
    raw = [encode(name, element(at), MAX_ATTRIBUTE_BYTES) for at, name in enumerate(attributes)]
    check_names(attributes)
    return raw


def decode_attributes(raw: Sequence[object]) -> tuple[str, ...]:
    """Inverse of :func:`encode_attributes`.

    Raises:
        InvalidRequest: Not UTF-8, or names that :func:`check_names` refuses.
    """
    _check_count(len(raw))
    names = tuple(decode(name, element(at), MAX_ATTRIBUTE_BYTES) for at, name in enumerate(raw))
    check_names(names)
    return names


def check_limit(limit: object) -> int:
    """Check how many keyphrases are wanted.

    Raises:
        InvalidRequest: Not a whole number from 1 to :data:`MAX_LIMIT`.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"{LIMIT}: {limit!r:.40}; ask for 1 to {MAX_LIMIT} keyphrases")
    return limit


def check_min_score(score: object) -> float:
    """Check the lowest score of a keyphrase.

    Raises:
        InvalidRequest: Not a number in [-1, 1].
    """
    # NaN is in no range.
    if isinstance(score, bool) or not isinstance(score, int | float) or not -1 <= score <= 1:
        raise InvalidRequest(f"{MIN_SCORE}: {score!r:.40}; give a cosine from -1 (any) to 1")
    return float(score)


def check_names(names: Sequence[str]) -> None:
    """Refuse attribute names that answers cannot be matched to.

    Raises:
        InvalidRequest: A name that :func:`check_name` refuses, or two names that are the same without regard
            to case: LLMs do not keep it.
    """
    seen: set[str] = set()
    for at, name in enumerate(names):
        check_name(name, element(at))
        if name.casefold() in seen:
            raise InvalidRequest(
                f"{element(at)}: {name!r} a second time, without regard to case; name each once"
            )
        seen.add(name.casefold())


def is_blank(text: str) -> bool:
    """Whether nothing of a text can be seen: white space, invisible characters such as U+200B, or nothing."""
    return all(
        character.isspace() or character in _FILLERS or unicodedata.category(character) in _INVISIBLE
        for character in text
    )


def check_name(name: str, what: str) -> None:
    """Refuse one attribute name.

    Raises:
        InvalidRequest: Without a character that can be seen, with control characters, or with white space
            around it: LLMs keep neither.
    """
    if is_blank(name):
        raise InvalidRequest(f"{what}: empty; remove it")
    if any(unicodedata.category(character) == "Cc" for character in name):
        raise InvalidRequest(f"{what}: {name!r} holds control characters; remove them")
    if name != name.strip():
        raise InvalidRequest(f"{what}: {name!r} has white space around it; remove it")


def encode(value: object, what: str, limit: int) -> bytes:
    """Encode a str as UTF-8 within ``limit`` bytes.

    Raises:
        InvalidRequest: Not a str, too long, or with a lone surrogate.
    """
    if not isinstance(value, str):
        raise InvalidRequest(f"{what}: a {type(value).__name__}; give a str")
    try:
        raw = value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"{what}: a lone surrogate at character {error.start}; fix how the text was decoded"
        ) from None
    _check_length(raw, what, limit)
    return raw


def decode(raw: object, what: str, limit: int) -> str:
    """Decode one BYTES element as UTF-8 within ``limit`` bytes.

    Raises:
        InvalidRequest: Not bytes, too long, or not UTF-8.
    """
    if not isinstance(raw, bytes):
        raise InvalidRequest(f"{what}: a {type(raw).__name__}; send BYTES elements")
    _check_length(raw, what, limit)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{what}: not UTF-8 at byte {error.start}; send UTF-8 text") from None


def element(at: int) -> str:
    """Name one attribute of a request, for messages."""
    return f"{ATTRIBUTES}[{at}]"


def _check_text(text: str) -> None:
    if is_blank(text):
        raise InvalidRequest(f"{TEXT}: empty; send the product's title or description")


def _check_count(count: int) -> None:
    if not count:
        raise InvalidRequest(f"{ATTRIBUTES}: empty; name at least one attribute")
    if count > MAX_ATTRIBUTES:
        raise InvalidRequest(f"{ATTRIBUTES}: {count} names, the limit is {MAX_ATTRIBUTES}; split them")


def _check_length(raw: bytes, what: str, limit: int) -> None:
    if len(raw) > limit:
        raise InvalidRequest(f"{what}: {len(raw)} bytes of UTF-8, the limit is {limit}; shorten it")
