"""TLS: certificates in files, checked before they are used, and read again without a pause."""

import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

HANDSHAKE = 10.0
"""Seconds that a caller may take to agree on keys."""

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"

_VERSION = 0xA0
"""Tag of a certificate's version, which those of the first version lack."""


class Certificate:
    """The certificate of a server.

    Raises:
        OSError: its files cannot be used; also from `read`.

    """

    def __init__(self, certificate: str, key: str) -> None:
        self._files = certificate, key
        self.context = server_context(certificate, key)
        self.expires = expiry(certificate)

    def read(self) -> None:
        """Read the files again: for connections from now on, as the others have their keys."""
        # What cannot be used must not get half into the context that is in use.
        server_context(*self._files)
        self.context.load_cert_chain(*self._files, password=_no_password)
        self.expires = expiry(self._files[0])

    def good_until(self) -> float:
        """Give the end of its time, in seconds since 1970."""
        return self.expires.timestamp()

    @property
    def days(self) -> float:
        """How many days it is good for."""
        return (self.expires - datetime.now(UTC)).total_seconds() / 86400


def server_context(certificate: str, key: str) -> ssl.SSLContext:
    """Give what a server needs."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # By default what the system's OpenSSL is configured for, which may be older ones too.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key, password=_no_password)
    # OpenIM's client would speak HTTP/2 if we offered it.
    context.set_alpn_protocols(["http/1.1"])
    return context


def client_context(authorities: str, certificate: str, key: str) -> ssl.SSLContext:
    """Give what a client needs; server and host name are verified in any case.

    Args:
        authorities: File of those whose certificates are trusted; "" for the system's.
        certificate: File of the client's own; "" for none.
        key: File of its key.

    """
    context = ssl.create_default_context(cafile=authorities or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate:
        context.load_cert_chain(certificate, key, password=_no_password)
    return context


def _no_password() -> str:
    """Have a key with a password fail, instead of asking for it on the terminal."""
    return ""


def trouble(load: Callable[[], object]) -> str:
    """Say why files cannot be used, "" if they can."""
    try:
        load()
    except ssl.SSLError as error:
        return (error.reason or "not in PEM form").replace("_", " ").lower()
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return ""


def expiry(path: str) -> datetime:
    """Tell until when the first certificate in a file is good.

    Raises:
        ValueError: there is none.

    """
    _, begin, rest = Path(path).read_text(encoding="ascii").partition(_BEGIN)
    der = ssl.PEM_cert_to_DER_cert(begin + rest.partition(_END)[0] + _END)
    signed = next(_values(next(_values(der))))
    fields = list(_values(signed))
    validity = fields[4 if signed[0] == _VERSION else 3]
    _, until = _values(validity)
    form = "%y%m%d%H%M%SZ" if len(until) == len("991231235959Z") else "%Y%m%d%H%M%SZ"
    return datetime.strptime(until.decode(), form).replace(tzinfo=UTC)


def _values(der: bytes) -> Iterator[bytes]:
    """Give the values that stand one after the other in DER (X.690, section 8.1)."""
    at = 0
    while at < len(der):
        length, at = der[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(der[at : at + size]), at + size
        yield der[at : at + length]
        at += length
