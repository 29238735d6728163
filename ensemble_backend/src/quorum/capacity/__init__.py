# SPDX-License-Identifier: Apache-2.0
"""GPU memory arithmetic: does a deployment fit, and does it fit this machine."""
