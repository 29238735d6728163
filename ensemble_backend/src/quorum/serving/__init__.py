# SPDX-License-Identifier: Apache-2.0
"""The steps that run inside Triton; nothing else imports ``triton_python_backend_utils``."""
