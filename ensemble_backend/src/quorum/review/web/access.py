# SPDX-License-Identifier: Apache-2.0
"""Say who may talk to the page: its address, its token, and the names by which browsers reach it."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from quorum.review.choose import LabelError

LEAST_TOKEN = 16
"""Characters of a token that somebody chose."""
SECURITY_HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""On every answer: nothing inline, nothing from elsewhere, nothing to elsewhere, no frame around it."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may talk to the page.

    Attributes:
        host: The address that it listens at.
        port: Its port.
        token: What every call must bring.
        name: A name by which browsers reach it, such as that of a proxy in front; "" for none.
    """

    host: str
    port: int
    token: str
    name: str = ""

    def url(self, reviewer: str) -> str:
        """Where a person opens the page; the token stands where browsers do not send it on."""
        host = "127.0.0.1" if _is_any(self.host) else self.host
        address = f"[{host}]" if ":" in host else host
        place = f"https://{self.name}" if self.name else f"http://{address}:{self.port}"
        return f"{place}/?reviewer={quote(reviewer, safe='')}#token={self.token}"

    def refusal(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Status and reason why a request is refused; None: it is not.

        A page of another site may have its own name resolve to this address (DNS rebinding): the Host header
        then has that name. It may also send requests here: the Origin header then names it.

        Args:
            method: GET or POST.
            path: What is asked for.
            headers: By lower-case name.
        """
        host = headers.get("host", "")
        if not self._is_own(host):
            return (
                403,
                f"Host {host!r} is no name of this page; open the address that `quorum review` printed",
            )
        origin = headers.get("origin")
        if origin is not None and not _is_of(origin, host):
            return 403, f"a request from {origin} is not taken"
        if not path.startswith("/api/"):
            # A link on another site may lead to the page, which holds no secret.
            return None if method in ("GET", "HEAD") else (405, "only GET here")
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "a request from another site is not taken"
        given = headers.get("authorization", "").removeprefix("Bearer ").encode("utf-8", "replace")
        if not hmac.compare_digest(given, self.token.encode()):
            return 401, "no token, or another one; open the whole address that `quorum review` printed"
        if method == "POST" and headers.get("content-type", "").partition(";")[0] != "application/json":
            return 415, "a decision is JSON"
        return None

    def _is_own(self, host: str) -> bool:
        """Whether a Host header names this page: no name that somebody else could have resolve to it."""
        try:
            found = urlsplit(f"//{host}")
            name, port = found.hostname or "", found.port
        except ValueError:
            return False
        if self.name and host.casefold() == self.name.casefold():
            return True
        if port != self.port and not (port is None and self.port == 80):
            return False
        if name in (self.host.casefold(), "localhost"):
            return True
        # An address is no name, so it resolves to nothing else.
        return is_loopback(name) if is_loopback(self.host) else _is_address(name)


def checked_token(host: str, token: str | None) -> str:
    """The token of a page at this address: the one given, on loopback else a random one.

    Raises:
        LabelError: None was given for an address that others reach, or a short one.
    """
    if token is None:
        if not is_loopback(host):
            raise LabelError(
                f"--host {host}: others reach that address, so a token is needed; make one with `openssl "
                "rand -hex 24` and set QUORUM_REVIEW_TOKEN or --token, or leave out --host"
            )
        return secrets.token_urlsafe(24)
    if len(token) < LEAST_TOKEN or not token.isascii() or quote(token, safe="") != token:
        raise LabelError(
            f"the token has {len(token)} characters; give at least {LEAST_TOKEN} letters, digits, - or _, "
            "such as of `openssl rand -hex 24`"
        )
    return token


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def headers_of(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers of a request; of one that comes twice, both: it then equals nothing that is wanted."""
    found: dict[str, str] = {}
    for name, value in pairs:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def _is_of(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin).netloc == host
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_any(host: str) -> bool:
    return host in ("0.0.0.0", "::")  # noqa: S104  (compared with, not listened at)
