# SPDX-License-Identifier: Apache-2.0
"""One cursor over the rows of a file per format."""
