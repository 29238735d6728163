# SPDX-License-Identifier: Apache-2.0
"""A real ``tritonserver`` process: found, configured, started, watched and stopped."""
