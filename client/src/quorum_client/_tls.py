# SPDX-License-Identifier: Apache-2.0
"""Certificates of a client."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorum_client.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificates, as PEM files.

    Attributes:
        ca: Authorities to trust instead of the system's.
        certificate: This client's own certificate chain, for mutual TLS.
        key: The key of ``certificate``.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def credentials(self) -> Any:
        """Read the files into gRPC credentials.

        Raises:
            InvalidRequest: A file cannot be read, or only one of ``certificate`` and ``key`` is given.
        """
        from quorum_client import _grpc

        if (self.certificate is None) != (self.key is None):
            raise InvalidRequest("tls: give certificate and key together, or neither")
        try:
            ca, key, chain = (p.read_bytes() if p else None for p in (self.ca, self.key, self.certificate))
        except OSError as error:
            raise InvalidRequest(
                f"tls: cannot read {error.filename}: {error.strerror}; check the path"
            ) from error
        return _grpc.ssl_channel_credentials(ca, key, chain)
