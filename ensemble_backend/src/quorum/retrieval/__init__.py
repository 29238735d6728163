# SPDX-License-Identifier: Apache-2.0
"""Keyphrases for items: judged pairs, sentence vectors, the search for the nearest, and how good it is."""
