# SPDX-License-Identifier: Apache-2.0
"""``tuned_on.txt``: hashes of the questions that a member was tuned on, so that it is not judged on them.

One line per attribute and text, sorted: 16 hex digits, the first 8 bytes of their SHA-256. The texts cannot
be read from it, but with a text one can tell whether it was among them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from quorum.files import write_atomic
from quorum.tune.card import CardError
from quorum_contract.fields import one_line

TUNED_ON_FILE = "tuned_on.txt"
_DIGITS = 16
_LINE = re.compile(rf"[0-9a-f]{{{_DIGITS}}}")


def question_hash(attribute: str, text: str) -> str:
    """Hash an attribute and a text; case and white space of the text do not count."""
    content = f"{attribute}\n{one_line(text).casefold()}"
    return hashlib.sha256(content.encode()).hexdigest()[:_DIGITS]


def write_tuned_on(folder: Path, hashes: Iterable[str]) -> None:
    """Write the hashes of :func:`question_hash` into a member's folder."""
    write_atomic(folder / TUNED_ON_FILE, "".join(f"{line}\n" for line in sorted({*hashes})))


def read_tuned_on(folder: Path) -> frozenset[str]:
    """Read the hashes of a member's folder, none where it has no such file.

    Raises:
        CardError: The file cannot be read.
    """
    path = folder / TUNED_ON_FILE
    try:
        lines = path.read_text("ascii").split()
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError) as error:
        raise CardError(f"{path}: cannot be read ({error}); copy the folder again") from error
    if any(not _LINE.fullmatch(line) for line in lines):
        raise CardError(f"{path}: a line is no hash of {_DIGITS} hex digits; copy the folder again")
    return frozenset(lines)
