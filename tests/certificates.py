"""Certificates for tests, in files, and a RabbitMQ that shows one."""

import base64
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import trustme
from private_services import LOOPBACK, free_port
from trustme import CA, LeafCert

from tests.brokers import ContainerRabbitMQ, RabbitMQ


@dataclass(frozen=True)
class Files:
    """A certificate, its key, and the authority that it comes from."""

    ca: str
    certificate: str
    key: str

    def client(self) -> ssl.SSLContext:
        """Give what a client needs that trusts this authority."""
        return ssl.create_default_context(cafile=self.ca)


def written(
    folder: Path, ca: CA, *names: str, expires: datetime | None = None, prefix: str = ""
) -> Files:
    """Issue a certificate for host names and addresses."""
    leaf = ca.issue_cert(*names, not_after=expires)
    paths = [folder / f"{prefix}{name}.pem" for name in ("ca", "certificate", "key")]
    ca.cert_pem.write_to_path(paths[0])
    # As authorities give them: the certificate, and then the way to them.
    leaf.cert_chain_pems[0].write_to_path(paths[1])
    ca.cert_pem.write_to_path(paths[1], append=True)
    leaf.private_key_pem.write_to_path(paths[2])
    return Files(*map(str, paths))


@contextmanager
def mutual_listener(server: RabbitMQ, ca: CA, leaf: LeafCert) -> Iterator[int]:
    """Have RabbitMQ listen with TLS, for clients with a certificate; give the port."""
    published = isinstance(server, ContainerRabbitMQ)
    port = 5671 if published else free_port()
    where = "0.0.0.0" if published else LOOPBACK  # noqa: S104  # in a container of its own
    listener = f'{{"{where}", {port}}}'
    options = (
        f"[{{cert, {_der(leaf.cert_chain_pems[0])}}},"
        f" {{key, {{'ECPrivateKey', {_der(leaf.private_key_pem)}}}}},"
        f" {{cacerts, [{_der(ca.cert_pem)}]}},"
        " {verify, verify_peer}, {fail_if_no_peer_cert, true}]"
    )
    server.rabbitmqctl(
        "eval", f"rabbit_networking:start_ssl_listener({listener}, {options}, 2)."
    )
    try:
        yield server.tls_port if isinstance(server, ContainerRabbitMQ) else port
    finally:
        server.rabbitmqctl("eval", f"rabbit_networking:stop_tcp_listener({listener}).")


def _der(pem: trustme.Blob) -> str:
    """Give the bytes of a PEM file in Erlang's words."""
    lines = pem.bytes().decode().splitlines()
    text = "".join(line for line in lines if not line.startswith("-"))
    assert base64.b64decode(text)
    return f'base64:decode("{text}")'
