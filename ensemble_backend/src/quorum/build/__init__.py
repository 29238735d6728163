# SPDX-License-Identifier: Apache-2.0
"""Turns checkpoints into what a runtime serves, by existing exporters in an environment of their own."""

from quorum.build.checkpoint import BuildError, Checkpoint, inspect_checkpoint
from quorum.build.openvino import MANIFEST, BuildManifest, build_openvino, read_manifest

__all__ = [
    "MANIFEST",
    "BuildError",
    "BuildManifest",
    "Checkpoint",
    "build_openvino",
    "inspect_checkpoint",
    "read_manifest",
]
