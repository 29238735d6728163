# SPDX-License-Identifier: Apache-2.0
"""Versions of a retriever to roll out, without a server that reads them."""

from __future__ import annotations

from pathlib import Path

from support.retrievers import Encoder, write_version
from support.serving_files import Files

from quorum.deployment import Deployment
from quorum.rollout.channels import Rollout
from quorum.rollout.retriever import RetrieverKind

KEYPHRASES = {"red shoes": ["shoes"], "blue jacket": [], "phone case": [], "leather wallet for men": []}


def made(folder: Path, seed: int = 0, **changed: object) -> Path:
    """A version as `quorum index` writes it."""
    return write_version(folder, KEYPHRASES, Encoder(seed), **changed)


def of_retriever(spec: Deployment, server: Files, dry_run: bool = False) -> Rollout:
    return Rollout(spec, server, server.probe, server.store.path, dry_run, RetrieverKind)
