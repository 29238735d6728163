# SPDX-License-Identifier: Apache-2.0
"""Names that the parts of an engine member share, without importing its runtime."""

PREFIX = "quorum_engine_"
"""Prefix of the engines' Triton models; the member's name follows."""
LORA_TASK = 1
"""The number that `quorum build` gives an engine's adapter."""
LORA_FOLDER = "lora"
"""Folder of an engine's adapters, each in a folder named by its number."""
TOKENIZER_INFO = "xgrammar_tokenizer_info.json"
"""File of an engine that describes its tokenizer, for guided decoding."""
