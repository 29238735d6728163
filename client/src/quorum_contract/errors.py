# SPDX-License-Identifier: Apache-2.0
"""The base of every exception of this project.

Each class has a ``code`` of its own that never changes: programs decide by it, people read the message.
"""

from __future__ import annotations

from typing import ClassVar


class QuorumError(Exception):
    """Base of every exception of this project.

    Attributes:
        code: Stable identifier of the kind of error, such as ``"VOTES_INVALID"``.
    """

    code: ClassVar[str] = "QUORUM_ERROR"
