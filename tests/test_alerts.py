"""Alert rules and dashboards speak of metrics that exist, and lead to what to do."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from private_services import CannotStart, install
from ruamel.yaml import YAML

from bridge.broker import connect
from bridge.topology import BRIDGE
from tests.brokers import Address, started
from tests.reference import apis_metrics, consoles_metrics, receivers_metrics, workers_metrics
from tests.running import eventually
from tests.test_docs import ROOT, anchors

RULES = ROOT / "deploy" / "prometheus" / "alerts.rules.yml"
DASHBOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
OURS = receivers_metrics() + workers_metrics() + apis_metrics() + consoles_metrics()
DETAILS = "/metrics/detailed?family=queue_coarse_metrics&family=queue_consumer_count"


def alerts() -> list[dict[str, Any]]:
    """Give the rules."""
    groups = YAML(typ="safe").load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels(path: Path) -> Iterator[str]:
    """Give the expressions of a dashboard."""
    for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))


def not_taken(written: object, read: object, place: str = "") -> Iterator[str]:
    """Give the place of everything written that was not read as it is; more may have been."""
    if isinstance(written, dict) and isinstance(read, dict):
        for key, value in written.items():
            yield from not_taken(value, read.get(key), f"{place}/{key}")
    elif isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        for number, (here, there) in enumerate(zip(written, read, strict=True)):
            yield from not_taken(here, there, f"{place}/{number}")
    elif written != read:
        yield place


def used() -> set[str]:
    """Give the metrics that alerts and dashboards use, without a histogram's endings."""
    expressions = [rule["expr"] for rule in alerts()]
    expressions += [each for path in DASHBOARDS for each in panels(path)]
    names = {name for each in expressions for name in re.findall(r"\b\w+_\w+", each)}
    wanted = {name for name in names if name.startswith(("openim_", "process_", "rabbitmq_"))}
    return {re.sub(r"(_seconds)_(bucket|sum|count)$", r"\1", name) for name in wanted}


def exported(text: str) -> set[str]:
    """Give the names of metrics in Prometheus' text format."""
    return set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))


async def asked(url: str) -> str:
    """Give what a web server answers."""
    async with aiohttp.request("GET", url, raise_for_status=True) as answer:
        return await answer.text()


@contextmanager
def installed() -> Iterator[str]:
    """Give Prometheus' tool for rules, installed if need be."""
    if shutil.which("promtool") is None:
        install("prometheus")
    found = shutil.which("promtool")
    if found is None:
        raise CannotStart("promtool is missing, which Debian's package prometheus brings")
    yield found


@pytest.fixture(scope="session")
def promtool() -> Iterator[str]:
    """Prometheus' tool for rules."""
    with started(installed()) as found:
        yield found


def test_the_rules_can_be_read_by_prometheus(promtool: str) -> None:
    said = ran(promtool, "check", "rules", RULES.name)
    assert said == f"SUCCESS: {len(alerts())} rules found"


def test_the_alerts_come_and_go_as_their_tests_say(promtool: str) -> None:
    assert ran(promtool, "test", "rules", "alerts.test.yml") == "SUCCESS"


def ran(*command: str) -> str:
    """Run a tool beside the rules; give the last line of what it says, or all if it fails."""
    done = subprocess.run(  # noqa: S603
        command, cwd=RULES.parent, check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip().rpartition("\n")[2].strip()


async def test_every_metric_that_is_used_is_exported(amqp_url: str, broker: Address) -> None:
    async with connect(amqp_url, name="test", timeout=10) as connection:
        await connection.declare(BRIDGE)
        general = await asked(f"{broker.metrics_url}/metrics")
        # RabbitMQ counts what is in queues every five seconds.
        detailed = await eventually(
            lambda: asked(f"{broker.metrics_url}{DETAILS}"),
            lambda text: "rabbitmq_detailed_queue_messages" in text,
        )
    assert used() - exported(general + detailed + OURS) == set()
    assert len(used()) > 20


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: str(rule["alert"]))
def test_every_alert_says_what_it_means_and_leads_to_what_to_do(rule: dict[str, Any]) -> None:
    said = rule["annotations"]
    path, _, heading = said["runbook"].partition("#")
    assert heading == rule["alert"].lower()
    assert heading in anchors(ROOT / path)
    assert said["summary"]
    assert said["data"]
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}


def test_the_runbook_is_about_alerts_that_exist() -> None:
    text = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^### (\w+)$", text, re.MULTILINE)) == sorted(
        rule["alert"] for rule in alerts()
    )


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_a_dashboard_has_panels_that_say_what_they_show(path: Path) -> None:
    dashboard = json.loads(path.read_text(encoding="utf-8"))
    shown = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert dashboard["uid"]
    assert all(panel["description"] and panel["targets"] for panel in shown)
    assert len(shown) > 10


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_grafana_knows_each_field_of_a_dashboard(path: Path) -> None:
    plugins.register_default_plugins()
    dashboard = json.loads(path.read_text(encoding="utf-8"))
    read = JSONEncoder().encode(Dashboard.from_json(dashboard))
    assert list(not_taken(dashboard, json.loads(read))) == []
