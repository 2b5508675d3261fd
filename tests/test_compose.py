"""What every service of the Compose stack has, so that a break-in finds little."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]


def read(path: str) -> dict[str, Any]:
    """Read a Compose file, with what its anchors stand for."""
    found: dict[str, Any] = YAML(typ="safe").load(ROOT / path)
    return found


STACK = read("docker-compose.yml")
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
EXAMPLES = [str(path.relative_to(ROOT)) for path in ROOT.glob("deploy/*/compose.yml")]

ENDS = {"secrets", "operator"}
"""Services that do one thing and end."""

PUBLISHED = {"proxy", "api", "console", "prometheus", "grafana"}
"""Services that somebody outside talks to."""

DATA = {
    "receiver": "journal:/var/lib/openim-bridge",
    "postgres": "postgres:/var/lib/postgresql/data",
    "rabbitmq": "rabbitmq:/var/lib/rabbitmq",
    "rabbitmq-2": "rabbitmq-2:/var/lib/rabbitmq",
    "rabbitmq-3": "rabbitmq-3:/var/lib/rabbitmq",
    "prometheus": "prometheus:/prometheus",
    "console": "console:/var/lib/openim-bridge",
    "grafana": "grafana:/var/lib/grafana",
}
"""What must outlive a container, and where."""

every_service = pytest.mark.parametrize("name", SERVICES)


def volumes() -> Iterator[tuple[str, str, str]]:
    """Give every volume as service, source, and the rest."""
    for name, service in SERVICES.items():
        for volume in service.get("volumes", ()):
            source, _, rest = volume.partition(":")
            yield name, source, rest


@every_service
def test_nobody_is_root(name: str) -> None:
    assert re.fullmatch(r"[1-9]\d*|[a-z]+", SERVICES[name]["user"])
    assert SERVICES[name]["user"] != "root"


@every_service
def test_nothing_is_written_but_to_volumes(name: str) -> None:
    assert SERVICES[name]["read_only"] is True
    assert all("size=" in mount for mount in SERVICES[name].get("tmpfs", ()))


@every_service
def test_nobody_has_or_gets_privileges(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    asks_for_more = {"cap_add", "privileged", "devices", "pid", "ipc", "userns_mode"}
    assert asks_for_more & set(service) == set()
    assert service.get("network_mode", "none") == "none"


@every_service
def test_nobody_takes_all_there_is(name: str) -> None:
    service = SERVICES[name]
    limits = service["deploy"]["resources"]["limits"]
    assert set(limits) == {"cpus", "memory", "pids"}
    assert service["ulimits"] == {"nofile": 16384}
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}


def test_the_console_gives_way_to_the_others() -> None:
    shares = {name: service.get("cpu_shares", 1024) for name, service in SERVICES.items()}
    assert shares.pop("console") < min(shares.values())


@every_service
def test_nobody_leaves_processes_behind(name: str) -> None:
    assert SERVICES[name]["init"] is True


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ENDS))
def test_who_dies_or_hangs_is_noticed(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    check = service["healthcheck"]
    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "retries"} <= set(check)
    # Each look starts a process, which costs more than what is looked at.
    assert check["start_interval"] == "1s"
    assert check["interval"] == "15s"


@every_service
def test_secrets_come_as_files(name: str) -> None:
    environment = SERVICES[name].get("environment", {})
    words = re.compile("PASS|SECRET|TOKEN|URL|PATH|COOKIE|KEY")
    files = {key: value for key, value in environment.items() if words.search(key)}
    files.pop("BRIDGE_JOURNAL_PATH", None)
    assert all(key.endswith("_FILE") for key in files)
    assert all(value.startswith("/run/secrets/") for value in files.values())
    assert "://" not in str(environment) + str(SERVICES[name].get("command", ""))


def test_each_sees_its_own_secrets_only() -> None:
    seen = {
        name: source
        for name, source, rest in volumes()
        if source.startswith("secrets") and name != "secrets"
    }
    shared = {name: name.partition("-")[0] for name in seen}
    assert seen == {name: f"secrets-{own}" for name, own in shared.items()}


def test_secrets_are_made_before_who_needs_them() -> None:
    needing = {name for name, _, rest in volumes() if rest == "/run/secrets:ro"}
    made = {"secrets": {"condition": "service_completed_successfully"}}
    waiting = {name for name in needing if made.items() <= SERVICES[name]["depends_on"].items()}
    assert waiting == needing
    assert needing == set(SERVICES) - {"secrets", "proxy", "prometheus"}


def test_each_volume_of_secrets_has_the_owner_who_writes_it() -> None:
    mounted = {
        rest.removeprefix("/var/lib/openim-secrets/for/")
        for name, _, rest in volumes()
        if name == "secrets" and "/for/" in rest
    }
    made = re.search(
        r"for service in ([a-z ]+);", (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
    )
    assert made is not None
    assert mounted == set(made[1].split())


def test_data_is_on_named_volumes_and_nothing_of_the_machine_is_written() -> None:
    kept = {
        name: f"{source}:{rest}"
        for name, source, rest in volumes()
        if source in STACK["volumes"] and not source.startswith("secrets")
    }
    assert kept == DATA
    others = [
        (name, source)
        for name, source, rest in volumes()
        if source not in STACK["volumes"] and not rest.endswith(":ro")
    ]
    assert others == []
    assert "docker.sock" not in str(STACK)


def test_files_that_are_mounted_are_in_the_checkout() -> None:
    mounted = {source for _, source, _ in volumes() if source.startswith("./")}
    assert [path for path in mounted if not (ROOT / path).exists()] == []


def test_only_what_is_called_from_outside_is_published_and_on_loopback_only() -> None:
    ports = {name: each["ports"] for name, each in SERVICES.items() if each.get("ports")}
    assert set(ports) == PUBLISHED
    addresses = [port for each in ports.values() for port in each]
    assert all(re.fullmatch(r"\$\{[A-Z_]+:-127\.0\.0\.1:\d+\}:\d+", each) for each in addresses)


def on(network: str) -> set[str]:
    """Give the services on a network."""
    return {name for name, each in SERVICES.items() if network in each.get("networks", ())}


def test_only_what_is_published_is_on_a_network_with_a_way_out_where_nobody_else_is() -> None:
    closed = {
        name for name, network in STACK["networks"].items() if (network or {}).get("internal")
    }
    out = {network: on(network) for network in set(STACK["networks"]) - closed}
    assert out == {f"outside-{name}": {name} for name in PUBLISHED}


def test_whose_forwarded_for_counts_is_the_proxy_alone() -> None:
    assert on("callbacks") == {"proxy", "receiver"}
    network = SERVICES["receiver"]["networks"]["callbacks"]
    proxy = (ROOT / "deploy/haproxy/haproxy.cfg").read_text(encoding="utf-8")
    # On the other network that they share it would find them by the service's name only.
    assert [f" {name}:10006 resolvers" in proxy for name in network["aliases"]] == [True]
    described = (ROOT / "docs/deploying.md").read_text(encoding="utf-8")
    assert f" {STACK['name']}_callbacks\n" in described


def test_who_replaces_the_receivers_does_not_replace_the_proxy() -> None:
    # Compose replaces whatever depends on what it replaces.
    assert "depends_on" not in SERVICES["proxy"]


def test_the_proxy_speaks_no_other_http_than_openim() -> None:
    proxy = (ROOT / "deploy/haproxy/haproxy.cfg").read_text(encoding="utf-8")
    assert "    bind :10006 proto h1\n" in proxy


def test_who_looks_whether_the_proxy_listens_sets_off_no_alert() -> None:
    proxy = (ROOT / "deploy/haproxy/haproxy.cfg").read_text(encoding="utf-8")
    assert "    option http-ignore-probes\n" in proxy


def test_no_page_in_a_browser_sends_callbacks_or_reads_metrics() -> None:
    proxy = (ROOT / "deploy/haproxy/haproxy.cfg").read_text(encoding="utf-8")
    assert "    http-request deny if { req.hdr(origin) -m found } ||" in proxy
    assert "--web.cors.origin=nobody" in SERVICES["prometheus"]["command"]


def test_neither_broker_nor_database_is_in_reach_of_what_is_published() -> None:
    networks = {name: set(each.get("networks", ())) for name, each in SERVICES.items()}
    assert networks["proxy"].isdisjoint(networks["rabbitmq"] | networks["postgres"])
    assert networks["api"].isdisjoint(networks["rabbitmq"])
    assert networks["receiver"].isdisjoint(networks["postgres"])


def test_a_broker_or_database_that_is_away_stops_nobody_from_starting() -> None:
    needed = {
        (name, other)
        for name in ("receiver", "consumers", "api", "console", "proxy")
        for other, how in SERVICES[name].get("depends_on", {}).items()
        if how.get("required", True)
    }
    assert {other for _, other in needed} == {"secrets"}


def test_the_nodes_of_a_cluster_differ_in_name_and_data_only() -> None:
    own = {"hostname", "volumes", "profiles", "depends_on"}
    nodes = [SERVICES[name] for name in ("rabbitmq", "rabbitmq-2", "rabbitmq-3")]
    same = [{key: node[key] for key in node if key not in own} for node in nodes]
    assert same[0] == same[1] == same[2]


@pytest.mark.parametrize("path", EXAMPLES)
def test_an_example_takes_nothing_of_that_away(path: str) -> None:
    added = {key for service in read(path)["services"].values() for key in service}
    assert added <= {"environment", "volumes"}
