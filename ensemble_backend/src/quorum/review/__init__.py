# SPDX-License-Identifier: Apache-2.0
"""Cells to label: which ones teach most, and the sheets that people fill in."""
