"""What `/readyz?verbose` tells of a receiver."""

from typing import Any

from bridge.forwarder import Link
from bridge.journal import Journal
from bridge.tls import Certificate


def details(
    journal: Journal, quota: int, link: Link, certificate: Certificate | None
) -> dict[str, Any]:
    """Give the state of what a receiver stands on."""
    facts: dict[str, Any] = {
        "journal": {
            "depth": journal.depth,
            "bytes": journal.size,
            "quota": quota,
            "full": journal.full,
        },
        "broker": {"connected": link.connected, "blocked": link.blocked, "reason": link.reason},
    }
    if certificate is not None:
        expires = certificate.expires.isoformat()
        facts["tls"] = {"expires": expires, "days": round(certificate.days, 1)}
    return facts
