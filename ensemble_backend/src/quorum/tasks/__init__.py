# SPDX-License-Identifier: Apache-2.0
"""The questions: attribute catalogue, prompts, answer parsing and value normalisation; text, no tensors."""
