# SPDX-License-Identifier: Apache-2.0
"""Pure NumPy vote aggregation: cells, agreement patterns, the decision rule, and one module per method."""
