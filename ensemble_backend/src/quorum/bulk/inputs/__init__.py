# SPDX-License-Identifier: Apache-2.0
"""Rows of the files that a bulk command is given: found, described, scanned, and read part by part.

=============  ==================================================================================
``records``    a row, and a row that cannot be read
``options``    what a user may say about the files
``sources``    from names (files, folders, patterns, ``-``, URLs) to files that can be opened
``layout``     what one file is: format, compression, encoding, dialect, columns
``formats``    one cursor over the rows per format: CSV, JSON Lines, Parquet
``scan``       one pass over everything before anything is asked: bad rows, columns, parts
``parts``      the rows of a part, from its start
=============  ==================================================================================
"""
