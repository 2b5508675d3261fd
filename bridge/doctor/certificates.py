"""The certificate of the other side: what is wrong with it, and for how long it is good."""

import ssl
import time
from datetime import timedelta
from typing import Any

from bridge.doctor.checks import Wrong

EXPIRY = timedelta(days=14)
"""How long before its end a certificate is warned of."""

_NOT_YET, _EXPIRED, _OTHER_HOST = 9, 10, {62, 64}
"""What OpenSSL calls these (X509_V_ERR_…)."""


def problem(error: ssl.SSLCertVerificationError, where: str, variables: str) -> tuple[str, str]:
    """Say why a certificate was not accepted, and what to do.

    Args:
        error: Why not.
        where: Whose certificate.
        variables: What the names of our settings about RabbitMQ begin with.

    """
    if error.verify_code == _EXPIRED:
        return f"the certificate of {where} has expired", "renew it"
    if error.verify_code == _NOT_YET:
        return f"the certificate of {where} is not valid yet", "set the clock, or wait"
    if error.verify_code in _OTHER_HOST:
        return (
            f"the certificate of {where} is for another host: {error.verify_message}",
            "name the host in the URL as the certificate does, or have one made for this name",
        )
    return (
        f"the certificate of {where} is not trusted: {error.verify_message}",
        f"name the file of the CA that signed it with {variables}CA",
    )


def expiry(certificate: dict[str, Any] | None, where: str, means: str, variables: str) -> str:
    """Say for how long a certificate is good.

    Args:
        certificate: As `Handshake.certificate` gives it.
        where: Whose.
        means: What it means when it no longer is.
        variables: As for `problem`.

    Raises:
        Wrong: not for long, or nobody verified it.

    """
    if not certificate:
        raise Wrong(
            "the certificate is not verified",
            means="whoever is between could read and change callbacks",
            remedy=f"take no_verify_ssl out of the URL, and name the CA with {variables}CA",
            warning=True,
        )
    end = certificate["notAfter"]
    left = timedelta(seconds=ssl.cert_time_to_seconds(end) - time.time())
    if left < EXPIRY:
        raise Wrong(
            f"the certificate of {where} ends in {left.days} days, {end}",
            means=f"from then on, {means}",
            remedy="renew it",
            warning=True,
        )
    return f"verified, for {left.days} days more"
