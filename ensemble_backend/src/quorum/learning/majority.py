# SPDX-License-Identifier: Apache-2.0
"""Plain majority: equal weights, ties to the lowest member index. The baseline of every comparison."""

from __future__ import annotations

import numpy as np

from quorum.decision.arrays import Decision, Floats, Rule, decide, equal_rule
from quorum.decision.histogram import Histogram
from quorum.decision.patterns import Codes, Keys


class Majority:
    """Equal weights.

    Attributes:
        rule_: The learned rule, one group; set by :meth:`fit`.
    """

    rule_: Rule

    def fit(self, hist: Histogram) -> Majority:
        """Set equal weights for the histogram's members; there is nothing to learn."""
        self.rule_ = equal_rule(hist.members)
        return self

    def predict(self, codes: Codes, groups: Keys | None = None) -> Decision:
        """Decide (n, m) codes; groups do not matter."""
        return decide(codes, self.rule_)

    def predict_proba(self, codes: Codes, groups: Keys | None = None) -> Floats:
        """(n,) agreement with each decision, in [0, 1]."""
        return np.asarray(self.predict(codes).confidence)
