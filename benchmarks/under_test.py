"""What all measurements share: receivers in processes of their own, and load on them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from private_services import PrivateRabbitMQ, free_port
from table import Figures

HERE = Path(__file__).parent
TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Server:
    """A receiver under test, in a process of its own."""

    name: str
    port: int
    process: subprocess.Popen[bytes]

    def cpu(self) -> float:
        """Give the seconds of CPU that it and its children have used."""
        total = 0.0
        for pid in (self.process.pid, *_children(self.process.pid)):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                total += (int(fields[11]) + int(fields[12])) / TICK
        return total

    def resident(self) -> float:
        """Give its resident memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def stop(self) -> None:
        """End it in good order."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


@dataclass
class Bench(Figures):
    """What the measurements share."""

    amqp_url: str
    folder: Path
    backlog: int
    rabbitmq: PrivateRabbitMQ | None
    """A RabbitMQ of our own."""
    database_url: str
    """A PostgreSQL that syncs what it commits."""

    @contextlib.contextmanager
    def server(self, name: str, **settings: str) -> Iterator[Server]:
        """Run a receiver: `bare`, `naive`, or ours."""
        port = free_port()
        started = time.perf_counter()
        process = subprocess.Popen(
            self._command(name, port),
            env=os.environ | self._environment(name, port) | settings,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / f"{name}.log").open("ab"),
        )
        server = Server(name, port, process)
        try:
            _wait_for(port)
            self.note(f"{name} start", time.perf_counter() - started)
            yield server
        finally:
            server.stop()

    def _command(self, name: str, port: int) -> list[str]:
        if name == "bridge":
            return [sys.executable, "-m", "bridge", "receive"]
        return [sys.executable, str(HERE / "others.py"), name, str(port), self.amqp_url]

    def _environment(self, name: str, port: int) -> dict[str, str]:
        del name
        return {
            "BRIDGE_PORT": str(port),
            "BRIDGE_AMQP_URL": self.amqp_url,
            "BRIDGE_JOURNAL_PATH": str(self.folder / "journal"),
            "BRIDGE_GRACE_PERIOD": "2",
        }


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=1).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.005)
        else:
            return
    raise TimeoutError(f"nothing answers on port {port}")


def load(server: Server, **options: float | str) -> dict[str, float]:
    """Put load on a server, from another process."""
    arguments = [f"--{name}={value}" for name, value in options.items()]
    printed = subprocess.run(
        [sys.executable, str(HERE / "load.py"), f"--port={server.port}", *arguments],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    result: dict[str, float] = json.loads(printed.splitlines()[-1])
    if result["errors"]:
        raise RuntimeError(f"{server.name} failed {result['errors']} times")
    return result
