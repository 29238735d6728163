# SPDX-License-Identifier: Apache-2.0
"""Write what a bulk job found: answers, votes and dead letters, part by part, then joined."""

from quorum.bulk.outputs.errors import OutputError
from quorum.bulk.outputs.targets import Outputs, Target, dead_letters_of, target_of

__all__ = ["OutputError", "Outputs", "Target", "dead_letters_of", "target_of"]
