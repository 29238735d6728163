# SPDX-License-Identifier: Apache-2.0
"""The model repository: Triton configurations as typed protobufs, rendered and written safely."""
