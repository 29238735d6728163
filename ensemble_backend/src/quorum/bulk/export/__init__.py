# SPDX-License-Identifier: Apache-2.0
"""Copy what a run wrote into a table of Delta Lake or Apache Iceberg: a file per table format."""
