# SPDX-License-Identifier: Apache-2.0
"""Train small encoders on a judge's labels: a cross-encoder, and a student that retrieves keyphrases."""
