"""A certificate authority of the test's own, with the certificates that it gives out, good ones and others."""

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOUR = timedelta(hours=1)


class Authority:
    """``pem`` is its certificate."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self._made = 0
        built = _begun(self._name, self._name, self._key, -HOUR, 24 * HOUR)
        built = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.pem = built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def certificate(self, *names: str, since: timedelta = -HOUR, until: timedelta = 24 * HOUR) -> str:
        """A key, and a certificate for these names and addresses, as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        built = _begun(_name(names[0]), self._name, key, since, until).add_extension(
            x509.SubjectAlternativeName([_general(each) for each in names]), critical=False
        )
        made = built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return (private + made).decode()

    def server(self, *names: str, since: timedelta = -HOUR, until: timedelta = 24 * HOUR) -> ssl.SSLContext:
        """A server's context with such a certificate."""
        self._made += 1
        path = self._directory / f"{self._name.rfc4514_string()}-{self._made}.pem"
        path.write_text(self.certificate(*names, since=since, until=until))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, since: timedelta, until: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + since)
        .not_valid_after(now + until)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
