# SPDX-License-Identifier: Apache-2.0
"""New weights, or a new retriever, go live as a version: publish, canary, promote, roll back.

Weights are versions of ``quorum_vote``, retrievers of ``quorum_retriever``; each is a :class:`.kind.Kind`.
"""
