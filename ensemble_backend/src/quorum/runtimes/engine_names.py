# SPDX-License-Identifier: Apache-2.0
"""Names that the parts of a member with a Triton model of its own share, without importing its runtime."""

from quorum_contract import RETRIEVER

PREFIX = "quorum_engine_"
"""Prefix of the engines' Triton models; the member's name follows."""
ENCODER_PREFIX = "quorum_encoder_"
"""Prefix of the Triton models of encoders that are computed on a GPU; the member's name follows."""


def retriever_encoder(version: int) -> str:
    """The Triton model of a retriever's encoder that is computed on a GPU; each version has its own."""
    return f"{ENCODER_PREFIX}{RETRIEVER}_{version}"


LORA_TASK = 1
"""The number that `quorum build` gives an engine's adapter."""
LORA_FOLDER = "lora"
"""Folder of an engine's adapters, each in a folder named by its number."""
TOKENIZER_INFO = "xgrammar_tokenizer_info.json"
"""File of an engine that describes its tokenizer, for guided decoding."""
