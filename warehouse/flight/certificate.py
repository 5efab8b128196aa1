"""The certificate of the Flight door: the operator's files, or one made here for development.

The one made here signs itself. It counts for this machine's names, for the address that is listened on, and for a year;
clients must be given it as the root that they believe. Its key never leaves the state folder.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import SettingsError
from common.files import write_atomic

if TYPE_CHECKING:
    from cryptography import x509

_LIFE = timedelta(days=365)
_RENEWED_BEFORE = timedelta(days=30)


@dataclass(frozen=True)
class Certificate:
    """What a server proves itself with.

    Attributes:
        path: the certificate's file, for clients; None where clients know its issuer.
        chain: certificates, PEM.
        key: private key, PEM.
    """

    path: Path | None
    chain: bytes
    key: bytes = field(repr=False)


def read_certificate(chain: Path, key: Path) -> Certificate:
    """The operator's own.

    Raises:
        SettingsError: a file cannot be read, or is not what it should be.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from cryptography.x509 import load_pem_x509_certificates

    try:
        found = Certificate(None, chain.read_bytes(), key.read_bytes())
        first = load_pem_x509_certificates(found.chain)[0]
        fits = load_pem_private_key(found.key, None).public_key() == first.public_key()
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(
            f"The certificate of the Flight door cannot be read: {type(error).__name__}.",
            remedy="name a certificate and its key, both PEM and the key without a password",
        ) from None
    if not fits:
        raise SettingsError(
            f"{key} is not the key of {chain}.", remedy="correct PENSTOCK_FLIGHT_CERTIFICATE and PENSTOCK_FLIGHT_KEY"
        )
    return found


def own_certificate(folder: Path, host: str) -> Certificate:
    """One for development, kept in a folder and made anew when it does not count for the host, or not long enough.

    Args:
        folder: ``<home>/serve/flight``.
        host: the address that is listened on.

    Side effects: ``certificate.pem`` and ``key.pem`` (for its owner only) in the folder.
    """
    path, key_path = folder / "certificate.pem", folder / "key.pem"
    names = _names(host)
    if not _counts(path, key_path, names):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        chain, key = _make(names)
        write_atomic(key_path, key.decode(), mode=0o600)
        write_atomic(path, chain.decode())
    return Certificate(path, path.read_bytes(), key_path.read_bytes())


def _names(host: str) -> list[str]:
    any_address = host in {"", "0.0.0.0", "::"}  # noqa: S104 - compared, not listened on
    return sorted({"localhost", "127.0.0.1", "::1", socket.gethostname(), *([] if any_address else [host])})


def _counts(path: Path, key_path: Path, names: list[str]) -> bool:
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        key_path.read_bytes()
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    held = {str(each.value) for each in alternatives}
    return set(names) <= held and certificate.not_valid_after_utc > datetime.now(UTC) + _RENEWED_BEFORE


def _make(names: list[str]) -> tuple[bytes, bytes]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Penstock, for development")])
    begins = datetime.now(UTC) - timedelta(minutes=5)  # clocks differ
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + _LIFE)
        .add_extension(x509.SubjectAlternativeName([_alternative(each) for each in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM), private


def _alternative(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
