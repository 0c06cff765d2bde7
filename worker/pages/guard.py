"""Who may read the worker's pages: a login, TLS, or a client certificate, as the settings say."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ssl
from dataclasses import dataclass

from worker.errors import UsageError
from worker.settings import Settings

MAX_HEADER = 4096


@dataclass(frozen=True)
class Guard:
    """What a client of the pages must show; nothing by default.

    Attributes:
        tls: None serves plain HTTP; with `CERT_REQUIRED` nobody without a certificate comes past the handshake.
        login: SHA-256 of `USER:PASSWORD` that /metrics asks for; None asks for none.
    """

    tls: ssl.SSLContext | None = None
    login: bytes | None = None

    def admits(self, authorization: str | None) -> bool:
        """Whether a request's `Authorization` header is the login, found out in the same time for all headers."""
        if self.login is None:
            return True
        scheme, _, encoded = (authorization or "")[:MAX_HEADER].partition(" ")
        try:
            said = base64.b64decode(encoded, validate=True) if scheme.lower() == "basic" else b""
        except (binascii.Error, ValueError):
            said = b""
        return hmac.compare_digest(hashlib.sha256(said).digest(), self.login)


OPEN = Guard()


def guard_of(settings: Settings) -> Guard:
    """The guard that the settings ask for.

    Raises:
        UsageError: a certificate or key cannot be used.
    """
    login = None
    if settings.metrics_username is not None:
        login = hashlib.sha256(f"{settings.metrics_username}:{settings.metrics_password}".encode()).digest()
    return Guard(_tls(settings), login)


def _tls(settings: Settings) -> ssl.SSLContext | None:
    certificate, key, authority = (
        settings.metrics_tls_certificate,
        settings.metrics_tls_key,
        settings.metrics_tls_client_ca,
    )
    if certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # A key with a password would be asked for on the terminal; with an empty one it is refused.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except (OSError, ValueError) as fault:
        raise UsageError(
            f"metrics_tls_certificate, metrics_tls_key: {_words(fault)}; expected PEM files with the certificate (and "
            "its chain), and its key without a password"
        ) from None
    if authority is not None:
        try:
            context.load_verify_locations(authority)
        except (OSError, ValueError) as fault:
            raise UsageError(
                f"metrics_tls_client_ca: {_words(fault)}; expected a PEM file with the authority that signs clients"
            ) from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _words(fault: Exception) -> str:
    reason = getattr(fault, "reason", None) or getattr(fault, "strerror", None)
    return str(reason or fault)
