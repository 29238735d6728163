# SPDX-License-Identifier: Apache-2.0
"""What callers who are not trusted can reach: keys, quotas, and the two halves, gRPC and HTTP."""
