# SPDX-License-Identifier: Apache-2.0
"""Repeat "Investigating LLM Applications in E-Commerce" (arXiv 2408.12779) with small models and public data.

Encoders and adapters are tuned here, kept in a folder by the hash of what they were made of, and used again:
an interrupted study goes on. Relevance stands in for ESCI, whose files are read where a user has them.
"""
