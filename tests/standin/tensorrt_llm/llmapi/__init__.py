# SPDX-License-Identifier: Apache-2.0
"""Configuration, as far as the library exports it here; ``LoraConfig`` is in ``llm_args``."""

from tensorrt_llm.sampling_params import GuidedDecodingParams

from .llm_args import KvCacheConfig

__all__ = ["GuidedDecodingParams", "KvCacheConfig"]
