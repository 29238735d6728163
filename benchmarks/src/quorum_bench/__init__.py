# SPDX-License-Identifier: Apache-2.0
"""Benchmark quorum: put load on it, compute metrics, write a report."""

__version__ = "0.1.0"
