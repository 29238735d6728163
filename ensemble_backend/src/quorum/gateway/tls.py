# SPDX-License-Identifier: Apache-2.0
"""The gateway's certificates, which are read again when their files are replaced."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from quorum.gateway.settings import TlsFiles
from quorum_contract.errors import QuorumError

logger = logging.getLogger(__name__)


class CertificateError(QuorumError, ValueError):
    """The gateway's certificate, its key or its authorities cannot be used; the message names them."""

    code = "CERTIFICATE_INVALID"


class _Pem(NamedTuple):
    certificate: bytes
    key: bytes
    client_ca: bytes | None


class Certificates:
    """The files of a certificate; where replaced ones do not fit together, the old ones serve on.

    Raises:
        CertificateError: They cannot be used at the start.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._mark = self._look()
        self._version, (self._pem, self._context) = 0, self._read()

    @property
    def is_mutual(self) -> bool:
        """Whether callers must show a certificate."""
        return self._files.client_ca is not None

    def version(self) -> int:
        """A number that grows when the files were replaced by others that can be used."""
        mark = self._look()
        if mark != self._mark:
            self._mark = mark
            try:
                self._pem, self._context = self._read()
            except CertificateError as error:
                logger.error("the certificate stays as it was: %s", error)  # noqa: TRY400  (it says it all)
            else:
                self._version += 1
                logger.warning("%s was read again", self._files.certificate)
        return self._version

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Credentials of a gRPC server, which look at the files before each handshake."""
        seen = self._version

        def fetch() -> Any:
            nonlocal seen
            before, seen = seen, self.version()
            return None if seen == before else _grpc_form(self._pem)

        return grpc.dynamic_ssl_server_credentials(
            _grpc_form(self._pem), fetch, require_client_authentication=self.is_mutual
        )

    def context(self) -> ssl.SSLContext:
        """The context of an HTTP server, of the files that :meth:`version` has read; the same for all."""
        return self._context

    def _paths(self) -> list[Path]:
        files = self._files
        return [Path(path) for path in (files.certificate, files.key, files.client_ca) if path]

    def _look(self) -> list[tuple[int, int]]:
        marks = []
        for path in self._paths():
            try:
                status = path.stat()
            except OSError:
                marks.append((0, 0))
            else:
                marks.append((status.st_mtime_ns, status.st_ino))
        return marks

    def _read(self) -> tuple[_Pem, ssl.SSLContext]:
        """The files, and a context that has taken them together."""
        before = self._bytes()
        context = _context(self._files)
        if self._bytes() != before:
            raise CertificateError(f"{self._files.certificate}: it, or its key, is being replaced")
        certificate, key, *more = before
        return _Pem(certificate, key, more[0] if more else None), context

    def _bytes(self) -> list[bytes]:
        try:
            return [path.read_bytes() for path in self._paths()]
        except OSError as error:
            raise CertificateError(f"{error.filename}: {error.strerror}") from error


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A ticket would bring back a caller whose authority is no longer taken.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    try:
        context.load_cert_chain(files.certificate, files.key)
        if files.client_ca:
            context.load_verify_locations(files.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        named = ", ".join(path for path in (files.certificate, files.key, files.client_ca) if path)
        raise CertificateError(f"{named}: {error}; give PEM files that belong together") from error
    return context


def _grpc_form(pem: _Pem) -> Any:
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.certificate)], pem.client_ca)
