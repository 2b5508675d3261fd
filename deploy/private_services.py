"""Servers of one's own, from the distribution's packages, for a laptop and for tests.

Everything listens on loopback only, keeps its files in one directory, and is gone when
this process is, however this process ends. Only the standard library is needed.
"""

# ruff: noqa: INP001 (these are programs, not a package)

import contextlib
import http.client
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"

START_TIMEOUT = 90.0
"""Seconds a server may take; RabbitMQ needs 3 on two idle cores, 30 on busy ones."""

STOP_TIMEOUT = 30.0
"""Seconds a server may take to stop before it is killed; RabbitMQ needs 6."""

_RABBITMQ = Path("/usr/lib/rabbitmq/bin")
_POSTGRES = Path("/usr/lib/postgresql")
_POLICY = Path("/usr/sbin/policy-rc.d")


class CannotStart(Exception):
    """A server is missing or did not start; the message tells a person what to do."""


def port_is_free(port: int) -> bool:
    """Whether nobody listens on `port` of the loopback address."""
    with socket.socket() as probe:
        # A connection of the last run that lingers in TIME_WAIT takes no port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port(preferred: int | None = None) -> int:
    """`preferred` if nobody listens there, otherwise some port that is free.

    Below the range from which the system takes a client's ports: a client that retries
    a stopped server there would now and then connect to itself, and hold the port.
    """
    if preferred is not None and port_is_free(preferred):
        return preferred
    while not port_is_free(port := random.randint(20_000, 32_000)):  # noqa: S311
        pass
    return port


def tied(*command: str | Path, user: str | None = None) -> list[str]:
    """`command`, to be killed by the kernel when the thread that starts it ends.

    Args:
        command: Program and arguments.
        user: Who runs it, if not the caller; only root may say.

    """
    words = [str(word) for word in command]
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return words
    change = [] if user is None else [f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    return [setpriv, "--pdeathsig=KILL", *change, "--", *words]


def install(package: str, *tools: str) -> None:
    """Install `package` from Debian or Ubuntu, leaving its own service stopped.

    Args:
        package: What is missing.
        tools: Packages that are needed beside it.

    Raises:
        CannotStart: Not root, or not such a system, or `apt-get` failed.

    """
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise CannotStart(f"{package} is missing: install it with your package manager")
    print(f"Installing {package}", flush=True)  # noqa: T201
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "--quiet=2"]
    quiet = {"DEBIAN_FRONTEND": "noninteractive", "DEBCONF_NOWARNINGS": "yes"}
    try:
        with _no_service_starts():
            for words in (
                ["update"],
                ["install", "--yes", "--no-install-recommends", package, *tools],
            ):
                subprocess.run(  # noqa: S603
                    [*apt, *words],
                    check=True,
                    env=os.environ | quiet,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
    except subprocess.CalledProcessError as error:
        raise CannotStart(f"{package} is missing, and apt-get could not install it") from error
    _stay_off(package)


@contextlib.contextmanager
def _no_service_starts() -> Iterator[None]:
    """Have packages not start what they bring, as Debian's policy for `invoke-rc.d` says."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def _stay_off(package: str) -> None:
    """Have the package's service not start at the next boot either."""
    systemctl = shutil.which("systemctl")
    if systemctl is not None:
        subprocess.run(  # noqa: S603
            [systemctl, "--quiet", "disable", package], check=False, capture_output=True
        )


class _Server:
    """A server process, its files, and what can befall it."""

    _stop_signal = signal.SIGTERM

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start, and return once clients are served.

        The server ends with the thread that calls this, see `tied`.

        Raises:
            CannotStart: It is not installed, or ended at once, or took too long.

        """
        raise NotImplementedError

    def stop(self) -> None:
        """End it in good order, by force where that takes too long."""
        if self._process is not None:
            self.resume()
            self._process.send_signal(self._stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT)
        self.kill()

    def kill(self) -> None:
        """End it as `kill -9` does."""
        if self._process is not None:
            _kill(self._process)
        self._process = None

    def pause(self) -> None:
        """Let it fall silent, with its connections open."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._running().send_signal(signal.SIGCONT)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"the server in {self.directory} is not running")
        return self._process

    @property
    def _log(self) -> Path:
        return self.directory / "log"

    def _launch(
        self, command: list[str], environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Run `command` out of reach of the terminal's Ctrl-C, what it says in a log."""
        with self._log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603
                command,
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )

    def _wait_until(self, serving: Callable[[], bool]) -> None:
        """Wait for `serving`; if that does not come, leave nothing running."""
        deadline = time.monotonic() + START_TIMEOUT
        with contextlib.ExitStack() as undo:
            undo.callback(self.kill)
            while not serving():
                if self._running().poll() is not None or time.monotonic() > deadline:
                    last = self._log.read_text(errors="replace").splitlines()[-15:]
                    raise CannotStart("\n".join(["the server did not start:", *last]))
                time.sleep(0.05)
            undo.pop_all()


class PrivateRabbitMQ(_Server):
    """A RabbitMQ node with its management and metrics plugins, for the user `guest`.

    Args:
        directory: Where its data, configuration, cookie and log are; made if missing.
        amqp_port: Preferred port; another is taken if somebody listens there.
        management_port: The same for the HTTP API.

    """

    def __init__(
        self,
        directory: Path,
        *,
        amqp_port: int | None = None,
        management_port: int | None = None,
    ) -> None:
        super().__init__(directory.resolve())
        self._amqp_port = free_port(amqp_port)
        self._management_port = free_port(management_port)
        self._metrics_port = free_port()
        self._epmd: subprocess.Popen[bytes] | None = None
        self._environment: dict[str, str] = {}

    @property
    def amqp_url(self) -> str:
        """Where clients connect; the same after a restart."""
        return f"amqp://guest:guest@{LOOPBACK}:{self._amqp_port}/"

    @property
    def management_url(self) -> str:
        """Where the HTTP API is, and the page for people."""
        return f"http://guest:guest@{LOOPBACK}:{self._management_port}"

    @property
    def metrics_url(self) -> str:
        """Where it tells its metrics to Prometheus."""
        return f"http://{LOOPBACK}:{self._metrics_port}"

    def start(self) -> None:
        """Start the node, which takes about three seconds, and its own port mapper."""
        if not _RABBITMQ.is_dir():
            install("rabbitmq-server", "curl")
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._configure()
        # Erlang's port mapper would otherwise outlive the node, on all addresses.
        mapper = ["epmd", "-address", LOOPBACK, "-port", self._environment["ERL_EPMD_PORT"]]
        self._epmd = self._launch(tied(*mapper))
        self._process = self._launch(tied(_RABBITMQ / "rabbitmq-server"), self._environment)
        self._wait_until(lambda: serves(self.amqp_url, self.management_url))

    def kill(self) -> None:
        """End node and port mapper as `kill -9` does."""
        super().kill()
        if self._epmd is not None:
            _kill(self._epmd)
        self._epmd = None

    def rabbitmqctl(self, *arguments: str) -> str:
        """What `rabbitmqctl` answers, from the running node."""
        return subprocess.run(  # noqa: S603
            [_RABBITMQ / "rabbitmqctl", "--quiet", *arguments],
            check=True,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        ).stdout

    def _configure(self) -> None:
        here = self.directory
        (here / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = {LOOPBACK}:{self._amqp_port}\n"
            f"management.tcp.ip = {LOOPBACK}\n"
            f"management.tcp.port = {self._management_port}\n"
            f"prometheus.tcp.ip = {LOOPBACK}\n"
            f"prometheus.tcp.port = {self._metrics_port}\n"
        )
        plugins = "[rabbitmq_management,rabbitmq_prometheus].\n"
        (here / "enabled_plugins").write_text(plugins)
        own = {
            "HOME": here,  # of the cookie
            "RABBITMQ_ADVANCED_CONFIG_FILE": here / "advanced.config",
            "RABBITMQ_CONFIG_FILE": here / "rabbitmq.conf",
            "RABBITMQ_CONF_ENV_FILE": here / "rabbitmq-env.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": here / "enabled_plugins",
            "RABBITMQ_LOG_BASE": here,
            "RABBITMQ_MNESIA_BASE": here / "data",
            "RABBITMQ_PID_FILE": here / "pid",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_NODENAME": "private@localhost",
            "RABBITMQ_DIST_PORT": free_port(),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": free_port(),
            "ERL_ZFLAGS": "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false",
            # Each node would bind its threads to the same processors.
            "RABBITMQ_SCHEDULER_BIND_TYPE": "u",
            # Has the script become the server, so that a signal reaches it.
            "RUNNING_UNDER_SYSTEMD": "true",
        }
        foreign = ("RABBITMQ_", "ERL_")
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(foreign)
        }
        self._environment = kept | {name: str(value) for name, value in own.items()}


class PrivatePostgres(_Server):
    """A PostgreSQL server for tests: fast, and careless of power cuts unless told otherwise.

    Its files are in a directory of its own, as their owner may not be root.

    Args:
        durable: Whether a commit waits for the disk.

    """

    # SIGTERM would wait for the clients to leave.
    _stop_signal = signal.SIGINT

    def __init__(self, *, durable: bool = False) -> None:
        self._fsync = "on" if durable else "off"
        super().__init__(Path(tempfile.gettempdir()) / f"postgres-{secrets.token_hex(8)}")
        self._port = free_port()

    @property
    def url(self) -> str:
        """Where clients connect as the superuser."""
        return f"postgresql://postgres@{LOOPBACK}:{self._port}/postgres"

    def start(self) -> None:
        """Make an empty cluster and serve it, which takes half a second."""
        if not _POSTGRES.is_dir():
            install("postgresql")
        programs = max(_POSTGRES.glob("*/bin"), key=lambda path: float(path.parent.name))
        user = "postgres" if os.geteuid() == 0 else None
        self.directory.mkdir(mode=0o700)
        if user is not None:
            shutil.chown(self.directory, user, user)
        data = "-D", self.directory / "data"
        rights = "--username=postgres", "--auth=trust", "--no-sync"
        make = tied(programs / "initdb", *data, *rights, user=user)
        self._process = self._launch(make)
        self._process.wait(START_TIMEOUT)
        at = "-h", LOOPBACK, "-p", str(self._port)
        quick = "-c", f"fsync={self._fsync}", "-c", "unix_socket_directories="
        serve = tied(programs / "postgres", *data, *at, *quick, user=user)
        self._process = self._launch(serve)
        ready = programs / "pg_isready", "--quiet", *at
        self._wait_until(lambda: subprocess.run(ready, check=False).returncode == 0)  # noqa: S603

    def kill(self) -> None:
        """End it as `kill -9` does, and remove its files."""
        super().kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def serves(amqp_url: str, management_url: str) -> bool:
    """Whether a RabbitMQ takes connections and answers on its HTTP API."""
    amqp, management = urlsplit(amqp_url), urlsplit(management_url)
    credentials = b64encode(f"{management.username}:{management.password}".encode()).decode()
    api = http.client.HTTPConnection(management.hostname or "", management.port, timeout=5)
    with contextlib.closing(api):
        try:
            # The last of RabbitMQ's listeners to open is the one for clients.
            socket.create_connection((amqp.hostname, amqp.port), timeout=5).close()
            api.request(
                "GET", "/api/overview", headers={"Authorization": f"Basic {credentials}"}
            )
            return api.getresponse().status == HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
