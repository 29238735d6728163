# SPDX-License-Identifier: Apache-2.0
"""Text in, text out: the attribute catalogue, prompts, answer parsing and value normalisation; no tensors."""
