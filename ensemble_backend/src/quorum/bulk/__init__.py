# SPDX-License-Identifier: Apache-2.0
"""Ask about many listings: read them from a file, run the questions, write answers to files."""
