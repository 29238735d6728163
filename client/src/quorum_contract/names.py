# SPDX-License-Identifier: Apache-2.0
"""The names of models and channels, and the value for *the text does not say*."""

from __future__ import annotations

GATE = "quorum_gate"
VOTE = "quorum_vote"
MEMBER_BACKEND = "quorum_member"
STABLE = "quorum"
CANARY = "quorum_canary"
CHANNELS = (STABLE, CANARY)
LAZY = "quorum_lazy"
LAZY_CANARY = "quorum_lazy_canary"
LAZY_CHANNELS = (LAZY, LAZY_CANARY)
"""The channels that ask members in rows, in a deployment that has them; each is pinned like its namesake."""
LAZY_OF = {STABLE: LAZY, CANARY: LAZY_CANARY}
RETRIEVER = "quorum_retriever"
RECOMMEND = "quorum_recommend"
RECOMMEND_CANARY = "quorum_recommend_canary"
RECOMMEND_CHANNELS = (RECOMMEND, RECOMMEND_CANARY)

PROBE_TEXT = "quorum probe: is anybody there?"
"""The text of probes, which are no requests of callers and are not counted as such."""

NOT_APPLICABLE = "n/a"
"""The value for *the text does not say*: a vote like any other, not an abstention."""
