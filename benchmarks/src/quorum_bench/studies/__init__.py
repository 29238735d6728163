# SPDX-License-Identifier: Apache-2.0
"""Measurements that stand alone: each has a command ``quorum-bench study NAME`` and its own table."""
