"""Time stamping authorities of our own, made with openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509 import CertificateBuilder, load_pem_x509_certificate

CONFIG = """
[req]
distinguished_name = name
[name]
[root]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
[good]
basicConstraints = CA:false
extendedKeyUsage = critical, timeStamping
[not_critical]
extendedKeyUsage = timeStamping
[also_others]
extendedKeyUsage = critical, timeStamping, codeSigning
[other_use]
extendedKeyUsage = critical, codeSigning
[tsa]
default_tsa = here
[here]
serial = {place}/serial
crypto_device = builtin
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha512
accuracy = secs:{accuracy}
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""


def openssl(place: Path, *arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Authority:
    """A root, and certificates under it, by name, with the extensions of CONFIG."""

    place: Path

    @staticmethod
    def make(place: Path, accuracy: int = 1, names: tuple[str, ...] = ("good",)) -> Authority:
        place.mkdir(exist_ok=True)
        (place / "tsa.cnf").write_text(CONFIG.format(place=place, accuracy=accuracy))
        (place / "serial").write_text("01")
        new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-config", "tsa.cnf")
        openssl(place, "req", "-x509", *new, "-keyout", "root.key", "-out", "root.pem", "-subj", "/CN=A root",
                "-days", "30", "-extensions", "root")  # fmt: skip
        found = Authority(place)
        for name in names:
            found.certify(name)
        return found

    @property
    def root(self) -> Path:
        return self.place / "root.pem"

    def certify(self, name: str, extensions: str | None = None) -> None:
        """A key, and a certificate for it."""
        new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-config", "tsa.cnf")
        openssl(self.place, "req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN=TSA {name}")
        openssl(self.place, "x509", "-req", "-in", f"{name}.csr", "-CA", "root.pem", "-CAkey", "root.key",
                "-CAcreateserial", "-out", f"{name}.pem", "-extfile", "tsa.cnf", "-extensions", extensions or name,
                "-days", "10")  # fmt: skip

    def expired(self, name: str) -> None:
        """As `certify`; but the certificate was good until yesterday."""
        self.certify(name, "good")
        old = load_pem_x509_certificate((self.place / f"{name}.pem").read_bytes())
        key = load_pem_private_key((self.place / "root.key").read_bytes(), None)
        today = datetime.now(UTC)
        builder = CertificateBuilder(old.issuer, old.subject, old.public_key(), old.serial_number)
        builder = builder.not_valid_before(today - timedelta(9)).not_valid_after(today - timedelta(1))
        for extension in old.extensions:
            builder = builder.add_extension(extension.value, extension.critical)
        made = builder.sign(key, SHA256())
        (self.place / f"{name}.pem").write_bytes(made.public_bytes(Encoding.PEM))

    def answer(self, query: Path, out: Path, name: str = "good") -> Path:
        """A time stamp of a query, by the clock."""
        openssl(self.place, "ts", "-reply", "-config", "tsa.cnf", "-queryfile", str(query), "-signer", f"{name}.pem",
                "-inkey", f"{name}.key", "-out", str(out))  # fmt: skip
        return out
