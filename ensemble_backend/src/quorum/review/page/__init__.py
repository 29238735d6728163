# SPDX-License-Identifier: Apache-2.0
"""What the review page is made of, without a browser: queue, decisions, agreement, cards, exports."""
