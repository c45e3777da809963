"""Whether a subscription is signed with the key of its host, and by whom a key's file is owned: both from directories, as
uWSGI's ``subscriptions-sign-check`` and ``subscriptions-credentials-check``.

A key's file is DIRECTORY/KEY.pem, with underscores for what is no letter, digit, dot or dash; in it is a public key. Signed
with RSA (PKCS #1 v1.5), or with a curve (ECDSA): what OpenSSL's EVP_Sign makes, which is what uWSGI calls.
"""

from __future__ import annotations

import os
import stat
from typing import Any, Final

from emperor.protocol.subscription import Subscription, sanitized

LARGEST_KEY: Final = 65536
MOST_KEYS: Final = 1024


class Unsigned(Exception):
    """There is nothing to sign or to verify with; the text says why and what to do."""


def have_library() -> bool:
    """Whether signatures can be made and verified here."""
    try:
        import cryptography.hazmat.primitives.serialization  # noqa: F401
    except ImportError:
        return False
    return True


WITHOUT_LIBRARY: Final = "signatures need the package cryptography: pip install 'emperor-vassals[signed]'"


class Keys:
    """Public keys, read when one is first needed and again when its file is another."""

    def __init__(self, digest: str, directory: str) -> None:
        self.digest = digest
        self.directory = directory
        self._keys: dict[str, tuple[tuple[int, ...], Any]] = {}

    def why_not(self, subscription: Subscription) -> tuple[str, str] | None:
        """Why it is not signed as it should be: `key` or `signature`, and a text. None: it is."""
        path = os.path.join(self.directory, sanitized(subscription.key) + ".pem")
        try:
            key = self._read(path)
        except (OSError, ValueError, Unsigned) as error:
            self._keys.pop(path, None)
            why = error.strerror if isinstance(error, OSError) else str(error)
            return "key", f"{path}: {why}"
        if not verify(key, self.digest, subscription.sign, subscription.signed):
            return "signature", f"its signature is not that of {path} ({self.digest})"
        return None

    def _read(self, path: str) -> Any:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_KEY:
                raise ValueError("no file of a key")
            mark = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
            known = self._keys.get(path)
            if known is not None and known[0] == mark:
                return known[1]
            key = public_key(os.read(fd, LARGEST_KEY))
        finally:
            os.close(fd)
        if len(self._keys) >= MOST_KEYS:
            self._keys.clear()
        self._keys[path] = (mark, key)
        return key


def owns(directories: tuple[str, ...], key: str, uid: int, gid: int) -> bool:
    """Whether this user and group own the key's file in one of these."""
    for directory in directories:
        name = sanitized(key)
        if name.strip("."):
            try:
                status = os.stat(os.path.join(directory, name))
            except OSError:
                continue
            if (status.st_uid, status.st_gid) == (uid, gid):
                return True
    return False


def public_key(pem: bytes) -> Any:
    """Raises Unsigned, ValueError."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric import ec, rsa
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError:
        raise Unsigned(WITHOUT_LIBRARY) from None
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("no public key in PEM") from None
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise ValueError("a key of RSA or of an elliptic curve expected")
    return key


def private_key(pem: bytes) -> Any:
    """Raises Unsigned, ValueError."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric import ec, rsa
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError:
        raise Unsigned(WITHOUT_LIBRARY) from None
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("no private key in PEM without a password") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise ValueError("a key of RSA or of an elliptic curve expected")
    return key


def verify(key: Any, digest: str, sign: bytes, signed: bytes) -> bool:
    """Whether `sign` is this key's signature of `signed`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    algorithm = getattr(hashes, digest)()
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(sign, signed, padding.PKCS1v15(), algorithm)
        else:
            key.verify(sign, signed, ec.ECDSA(algorithm))
    except (InvalidSignature, ValueError):
        return False
    return True


def signature(key: Any, digest: str, data: bytes) -> bytes:
    """This private key's signature of `data`. Raises ValueError."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    algorithm = getattr(hashes, digest)()
    if isinstance(key, rsa.RSAPrivateKey):
        return bytes(key.sign(data, padding.PKCS1v15(), algorithm))
    return bytes(key.sign(data, ec.ECDSA(algorithm)))
