# SPDX-License-Identifier: Apache-2.0
"""The decision: its rule, agreement patterns, early stopping and ``weights.json``; all that serving needs."""
