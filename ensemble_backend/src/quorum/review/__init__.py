# SPDX-License-Identifier: Apache-2.0
"""Label cells: choose the most informative ones, and read the sheets that people fill in."""
