# SPDX-License-Identifier: Apache-2.0
"""All that serving needs to decide: the rule, agreement patterns, early stopping, ``weights.json``."""
