# SPDX-License-Identifier: Apache-2.0
"""Many questions at once: listings from a file, the run, and answers into files."""
