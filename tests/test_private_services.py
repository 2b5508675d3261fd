"""The servers that a laptop without Docker gets."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from private_services import (
    LOOPBACK,
    CannotStart,
    PrivateRabbitMQ,
    free_port,
    port_is_free,
    serves,
)

from tests.brokers import started

# They are what `make run` uses, whatever the other tests run on.
pytestmark = [
    pytest.mark.broker,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("node"),
]

PROC = Path("/proc")
DEPLOY = Path(__file__).parents[1] / "deploy"

PARENT = """
import sys, time
from pathlib import Path
from private_services import PrivateRabbitMQ
with PrivateRabbitMQ(Path(sys.argv[1])) as node:
    print(node.amqp_url, node.management_url, flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRabbitMQ]:
    """One private node, for the tests that leave it running."""
    with started(PrivateRabbitMQ(tmp_path_factory.mktemp("node"))) as running:
        yield running


def processes_of(directory: Path) -> set[int]:
    """The ids of the processes whose working folder is `directory`, or in it."""
    found = set()
    for entry in PROC.glob("[0-9]*"):
        # One that ends while we look was not left behind.
        with contextlib.suppress(OSError):
            if (entry / "cwd").readlink().is_relative_to(directory):
                found.add(int(entry.name))
    return found


def listening_addresses(pids: set[int]) -> set[str]:
    """The addresses at which `pids` listen, in hexadecimal, as the kernel writes them."""
    descriptors = [link for pid in pids for link in (PROC / str(pid) / "fd").iterdir()]
    sockets = {str(link.readlink()) for link in descriptors}
    tables = [PROC / "net" / name for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table.read_text().splitlines()[1:]]
    listening = [row for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]
    return {row[1].partition(":")[0] for row in listening}


def none_left(directory: Path) -> bool:
    """Whether within ten seconds no process of `directory` is left."""
    deadline = time.monotonic() + 10
    while (left := processes_of(directory)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not left


def test_a_node_serves(node: PrivateRabbitMQ) -> None:
    assert serves(node.amqp_url, node.management_url)
    assert node.rabbitmqctl("list_vhosts", "--no-table-headers").split() == ["/"]


def test_a_node_listens_on_loopback_only(node: PrivateRabbitMQ) -> None:
    loopback = {"0100007F", "00000000000000000000000001000000"}
    addresses = listening_addresses(processes_of(node.directory))
    assert "0100007F" in addresses
    assert addresses <= loopback


def test_a_paused_node_answers_again_when_resumed(node: PrivateRabbitMQ) -> None:
    node.pause()
    node.resume()
    assert serves(node.amqp_url, node.management_url)


def test_stopping_keeps_the_data_and_leaves_no_process(tmp_path: Path) -> None:
    node = PrivateRabbitMQ(tmp_path / "node")
    with node:
        node.rabbitmqctl("add_vhost", "kept")
    assert none_left(node.directory)
    with node:
        assert "kept" in node.rabbitmqctl("list_vhosts").split()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_parent(tmp_path: Path, sent: signal.Signals) -> None:
    directory = tmp_path / "node"
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", PARENT, str(directory)],
        env={**os.environ, "PYTHONPATH": str(DEPLOY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline()
        assert processes_of(directory)
        parent.send_signal(sent)
    assert none_left(directory)


def test_a_node_that_cannot_start_says_why(tmp_path: Path) -> None:
    node = PrivateRabbitMQ(tmp_path)
    (tmp_path / "data").write_text("not a folder")
    with pytest.raises(CannotStart, match="did not start"):
        node.start()
    assert none_left(tmp_path)


def test_a_preferred_port_is_left_to_who_listens_there() -> None:
    with socket.create_server((LOOPBACK, 0)) as other:
        taken = other.getsockname()[1]
        assert not port_is_free(taken)
        assert free_port(taken) != taken


def test_a_preferred_port_is_taken_when_free() -> None:
    port = free_port()
    assert free_port(port) == port
