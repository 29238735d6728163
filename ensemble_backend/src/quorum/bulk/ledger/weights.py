# SPDX-License-Identifier: Apache-2.0
"""Which versions of the weights answered a job, by channel; others need the user's consent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quorum.bulk.callbacks import Note
from quorum.bulk.ledger.errors import NewWeights
from quorum.bulk.ledger.folder import JobFolder


def check_seen(seen: Mapping[str, Sequence[int]], channel: str, version: int) -> None:
    """Raise NewWeights where only others of these versions answered on this channel."""
    before = seen.get(channel)
    if before and version not in before:
        versions = ", ".join(map(str, before))
        raise NewWeights(
            f"version {version} of the weights answers on channel {channel!r} now, version {versions} "
            "answered this job so far. If several servers answer (--url A,B), they may disagree: `quorum "
            "status` shows each one's version, by `fleet` in deploy.yaml or in its folder. If not: promote "
            f"version {before[-1]} again (`quorum promote {before[-1]}`) and run the same command, or go on "
            "with both by --accept-new-weights: each row of the output says its version"
        )


class WeightsSeen:
    """The versions that answered so far; a file of the job."""

    def __init__(self, folder: JobFolder, *, accept_new: bool, note: Note) -> None:
        """Read them; raises LedgerError if the file is damaged."""
        self._folder, self._accept_new, self._note = folder, accept_new, note
        self._seen: dict[str, list[int]] = folder.read(folder.weights) or {}

    def check(self, channel: str, version: int) -> None:
        """Raise NewWeights where only others answered on this channel, unless new ones are accepted."""
        if not self._accept_new:
            check_seen(self._seen, channel, version)

    def add(self, channel: str, version: int) -> None:
        """Note a version that answers, before its answer is written.

        Raises:
            NewWeights: As :meth:`check` does.
            OSError: It cannot be written.
        """
        before = self._seen.get(channel, [])
        if version in before:
            return
        self.check(channel, version)
        after = self._seen | {channel: [*before, version]}
        self._folder.write(self._folder.weights, after)
        self._seen = after
        if before:
            self._note(f"version {version} of the weights answers on channel {channel!r} from here on")
