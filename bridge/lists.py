"""Settings that are several values in one: named secrets, networks."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network

NAMED_SECRET = r"[A-Za-z0-9_-]{1,32}:[A-Za-z0-9._~-]{32,200}"  # noqa: S105  # how one looks


def named_secrets(text: str) -> dict[str, str]:
    """Tell secrets apart, by their names, the newest last."""
    return dict(each.split(":", 1) for each in re.split(r"[\s,]+", text) if each)


def differ(text: str) -> bool:
    """Say whether secrets have each a name and a value of their own."""
    return len(set(named_secrets(text).values())) == text.count(":")


def networks(text: str) -> list[Network]:
    """Read networks with commas between them.

    Raises:
        ValueError: one of them is none.

    """
    return [ip_network(each.strip()) for each in text.split(",")] if text else []


def are_networks(text: str) -> bool:
    """Say the same, or raise the same."""
    networks(text)
    return True
