"""TLS to upstreams: what a connection there needs, and what went wrong, in words with the next step.

A certificate is verified, its name too, unless the vassal's file says otherwise. What ends without TLS's own farewell
(close_notify) was cut off, by whoever sits in between: the end of such a connection is no end of a response (RFC 8446, 6.1;
RFC 9110, 8.6 on what ends with its connection).
"""

import asyncio
import os
import ssl
from typing import Any, Final
from weakref import WeakValueDictionary

from emperor.config.upstreams import Address, Upstreams

Key = tuple[str, str, bool]

LATER_S: Final = 2 * 3600.0
"""Above the most that `upstream-connect-timeout` may say: the attempt's own deadline comes first."""

FAREWELL_S: Final = 10.0
"""How long the other end has to say goodbye as well. It is waited for only where its last bytes may be wanted."""

_NAMES: Final = frozenset((62, 64))  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_EXPIRED: Final = 10
_NOT_YET: Final = 9
# No issuer, another of its name, or one that nobody knows.
_UNKNOWN: Final = frozenset((2, 7, 18, 19, 20, 21))

_NOT_TLS: Final = frozenset(
    (
        "WRONG_VERSION_NUMBER",
        "HTTP_REQUEST",
        "UNKNOWN_PROTOCOL",
        "PACKET_LENGTH_TOO_LONG",
        "RECORD_LAYER_FAILURE",
    )
)
_TOO_OLD: Final = frozenset(("UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION"))
_WANTS_OURS: Final = frozenset(("TLSV13_ALERT_CERTIFICATE_REQUIRED", "TLSV1_ALERT_CERTIFICATE_REQUIRED"))
_REFUSES_OURS: Final = frozenset(
    (
        "TLSV1_ALERT_UNKNOWN_CA",
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "TLSV1_ALERT_ACCESS_DENIED",
    )
)


class CutOff(ConnectionError):
    """A connection ended, and nobody has said that it would."""

    def __str__(self) -> str:
        return "it ended without TLS's farewell (close_notify), as one that is cut off does: let the server send Content-Length"


_made: "WeakValueDictionary[Key, ssl.SSLContext]" = WeakValueDictionary()
"""Those that some vassal has now: whom the system trusts is a megabyte, and the same for all."""

_being_made: "dict[Key, asyncio.Task[ssl.SSLContext]]" = {}


class Tls:
    """One app's."""

    def __init__(self) -> None:
        self._key: Key = ("", "", True)
        self._name = ""
        self._context: ssl.SSLContext | None = None

    def use(self, said: Upstreams) -> bool:
        """What the vassal's file says of it. True: it is other than before, and kept connections are of the one before."""
        key, name = (said.ca, said.cert, said.verify), said.tls_name
        if (key, name) == (self._key, self._name):
            return False
        self._key, self._name, self._context = key, name, None
        return True

    def name_of(self, address: Address) -> str:
        """The name that the certificate there is to be of."""
        return self._name or address.host

    async def keys(self, address: Address) -> dict[str, Any]:
        """What `create_connection` is told for an upstream: nothing where it speaks no TLS. Raises OSError."""
        if not address.tls:
            return {}
        if self._context is None:
            key = self._key
            context = await _context(key)
            if key == self._key:
                self._context = context
        else:
            context = self._context
        return {
            "ssl": context,
            "server_hostname": self.name_of(address),
            "ssl_handshake_timeout": LATER_S,
            "ssl_shutdown_timeout": FAREWELL_S,
        }

    def fault(self, error: Exception, address: Address) -> str:
        """What went wrong with a connection there."""
        if not address.tls or isinstance(error, CutOff):
            return _plain(error)
        if isinstance(error, ssl.SSLCertVerificationError):
            return self._of_certificate(error, address)
        if isinstance(error, ssl.SSLError):
            return _of_tls(error)
        if isinstance(error, ConnectionError) and not error.errno:
            return "it closed the connection in the TLS handshake"
        return _plain(error)

    def _of_certificate(self, error: ssl.SSLCertVerificationError, address: Address) -> str:
        code, name = error.verify_code, self.name_of(address)
        if code in _NAMES:
            return f"its certificate is not of {name}: set upstream-name to a name that it has"
        if code == _EXPIRED:
            return "its certificate, or one above it, has expired: renew it there"
        if code == _NOT_YET:
            return "its certificate is not valid yet: look at the clocks here and there"
        if code in _UNKNOWN:
            why = error.verify_message
            return (
                f"nobody who is trusted here vouches for its certificate ({why}): name its CA in upstream-ca"
            )
        return f"its certificate cannot be verified: {error.verify_message}"


def context_of(ca: str, cert: str, verify: bool) -> ssl.SSLContext:
    """A client's context, TLS 1.2 and later. Raises OSError (SSLError is one), which says which option is wrong."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["http/1.1"])
    # Python's default takes a connection that was cut off for one that has ended.
    made.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    elif ca:
        try:
            made.load_verify_locations(cadata=ca)
        except ssl.SSLError as error:
            raise OSError(f"upstream-ca cannot be used: {_reason(error)}") from None
    else:
        made.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if cert:
        # There is no way to load a chain from memory; a file in memory has a name all the same.
        fd = os.memfd_create("upstream-cert", os.MFD_CLOEXEC)
        try:
            os.write(fd, cert.encode())
            made.load_cert_chain(f"/proc/self/fd/{fd}", password=lambda: "")
        except ssl.SSLError as error:
            raise OSError(f"upstream-cert, or its key, cannot be used: {_reason(error)}") from None
        finally:
            os.close(fd)
    return made


async def _context(key: Key) -> ssl.SSLContext:
    """In a thread: to read whom the system trusts takes twenty milliseconds."""
    found = _made.get(key)
    if found is not None:
        return found
    task = _being_made.get(key)
    if task is None:
        task = _being_made[key] = asyncio.create_task(asyncio.to_thread(context_of, *key))
        task.add_done_callback(lambda done: _is_made(key, done))
    # Whoever gives up waiting does not take it from the others.
    found = await asyncio.shield(task)
    _made[key] = found
    return found


def _is_made(key: Key, done: "asyncio.Task[ssl.SSLContext]") -> None:
    _being_made.pop(key, None)
    if not done.cancelled():
        done.exception()  # whoever waits is told; all may have gone


def _of_tls(error: ssl.SSLError) -> str:
    reason = (error.reason or "").upper()
    if reason in _NOT_TLS:
        return "it does not speak TLS there: write http:// if that is meant"
    if reason in _TOO_OLD:
        return "it speaks no TLS from 1.2 on, and nothing older is spoken here"
    if reason in _WANTS_OURS:
        return "it wants a certificate of ours: name one in upstream-cert"
    if reason in _REFUSES_OURS:
        return f"it refuses our certificate (upstream-cert): {_reason(error)}"
    if reason == "SSLV3_ALERT_HANDSHAKE_FAILURE":
        return "it refuses the TLS handshake: it may want a certificate of ours (upstream-cert)"
    if reason == "TLSV1_UNRECOGNIZED_NAME":
        return "it knows nothing of the name that it is asked for: set upstream-name"
    if isinstance(error, ssl.SSLEOFError) or reason == "UNEXPECTED_EOF_WHILE_READING":
        return "it closed the connection in the middle of TLS"
    return f"TLS: {_reason(error)}"


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()


def _plain(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
