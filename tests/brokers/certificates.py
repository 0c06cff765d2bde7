"""A certificate authority for tests, and what it signs: EC keys without a password, made by OpenSSL."""

from __future__ import annotations

import subprocess
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
SERVER = (
    "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=CA:FALSE\n"
)
CLIENT = "extendedKeyUsage=clientAuth\nbasicConstraints=CA:FALSE\n"


class Authority:
    """Signs certificates, each with its key in a file beside it.

    Args:
        directory: made when missing; `ca.pem` in it is what clients trust.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.certificate = directory / "ca.pem"
        constraints = (
            "-addext",
            "basicConstraints=critical,CA:TRUE",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        )
        _openssl("req", "-x509", *_KEY, "-days", "30", "-subj", "/CN=test-ca", *constraints, "-keyout",
                 directory / "ca.key", "-out", self.certificate)  # fmt: skip

    def sign(self, name: str, subject: str, extensions: str) -> tuple[Path, Path]:
        """Certificate and key of a new subject.

        Args:
            name: of the files.
            subject: as OpenSSL spells it, `/CN=worker/O=test`.
            extensions: `SERVER` or `CLIENT`.
        """
        request, config = self.directory / f"{name}.csr", self.directory / f"{name}.cnf"
        certificate, key = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        config.write_text(extensions)
        _openssl("req", *_KEY, "-subj", subject, "-keyout", key, "-out", request)
        _openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.directory / "ca.key",
                 "-CAcreateserial", "-days", "30", "-out", certificate, "-extfile", config)  # fmt: skip
        return certificate, key


def encrypt(key: Path, password: str) -> Path:
    """A copy of a key that opens with a password."""
    locked = key.with_suffix(".locked.key")
    _openssl("pkcs8", "-topk8", "-in", key, "-out", locked, "-passout", f"pass:{password}")
    return locked


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
