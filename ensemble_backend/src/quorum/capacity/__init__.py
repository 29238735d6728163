# SPDX-License-Identifier: Apache-2.0
"""Compute the GPU memory of a deployment, and check it against a machine."""
