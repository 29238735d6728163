# SPDX-License-Identifier: Apache-2.0
"""Teach small encoders what the ensemble judged: a cross-encoder, then one whose vectors are searched."""
