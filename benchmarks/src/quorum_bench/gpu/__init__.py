# SPDX-License-Identifier: Apache-2.0
"""Check members and the graph around them on a GPU: ``quorum-bench gpu-check``."""
