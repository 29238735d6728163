# SPDX-License-Identifier: Apache-2.0
"""One look for every report: page and style, palette, charts, and the format of figures."""
