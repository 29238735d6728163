# SPDX-License-Identifier: Apache-2.0
"""Compute the size of a KV cache: bytes of keys and values per token."""

from __future__ import annotations


def kv_heads_on(kv_heads: int, tensor_parallel: int) -> int:
    """Key and value heads on each GPU; with fewer heads than GPUs each has a copy of one."""
    return max(1, -(-kv_heads // tensor_parallel))


def kv_bytes_per_token(
    *, layers: int, kv_heads: int, head_dim: int, tensor_parallel: int = 1, bytes_each: int = 2
) -> int:
    """Bytes of keys and values that one token takes on each GPU.

    In every layer, a key and a value of ``head_dim`` numbers for each head that the GPU holds, of
    ``bytes_each``: 2 for 16 bits, 1 for a quantised cache, 4 for ``float32``.
    """
    return 2 * layers * kv_heads_on(kv_heads, tensor_parallel) * head_dim * bytes_each
