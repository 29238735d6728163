# SPDX-License-Identifier: Apache-2.0
"""Build models and engines from checkpoints, with existing exporters in a separate environment."""

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
