# SPDX-License-Identifier: Apache-2.0
"""What the parts of an engine member call each other, readable without importing its runtime."""

PREFIX = "quorum_engine_"
"""What the names of the engines' Triton models begin with; the member's name follows."""
LORA_TASK = 1
"""The number that `quorum build` gives an engine's adapter."""
LORA_FOLDER = "lora"
"""Folder of an engine that holds its adapters, each in a folder called by its number."""
TOKENIZER_INFO = "xgrammar_tokenizer_info.json"
"""File of an engine that describes its tokenizer, which guiding needs."""
