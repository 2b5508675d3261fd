"""The manifests for Kubernetes: allowed, closed, and in agreement with what else is here."""

import json
import re
import subprocess
from pathlib import Path
from textwrap import dedent
from typing import Any

import jsonschema
import make_secrets
import pytest
from ruamel.yaml import YAML

from bridge.loading import load
from bridge.settings import Receiver
from consumers.settings import Console, FriendsApi, Worker
from tests.kubernetes import (
    EXAMPLE,
    FILES,
    FOLDER,
    MANIFESTS,
    PROCESSES,
    ROOT,
    Manifest,
    container,
    environment,
    kustomization,
    named,
    of,
    one,
    pod,
    selected,
)
from tests.reference import workers_metrics
from tests.test_alerts import exported, promtool  # noqa: F401  # a fixture
from tests.test_compose import SERVICES
from tests.test_docs import variables

SCHEMA = json.loads((ROOT / "tests" / "kubernetes.schema.json").read_text(encoding="utf-8"))
SETTINGS = "/etc/openim-bridge/openim-bridge.toml"
SERVING = [name for name in PROCESSES if name != "operator"]
STARTS: dict[str, type[Receiver | Worker | FriendsApi | Console]] = {
    "receiver": Receiver,
    "consumers": Worker,
    "api": FriendsApi,
    "console": Console,
}
PRIVILEGES = {"privileged", "hostNetwork", "hostPID", "hostIPC", "hostUsers"}
QUERY = one("ScaledObject", "consumers")["spec"]["triggers"][0]["metadata"]["query"]

SCALED_OBJECT = {
    "": {"scaleTargetRef", "minReplicaCount", "maxReplicaCount", "pollingInterval", "triggers"}
    | {"cooldownPeriod", "fallback", "advanced"},
    "scaleTargetRef": {"apiVersion", "kind", "name", "envSourceContainerName"},
    "trigger": {"type", "name", "metricType", "metadata", "authenticationRef"},
    "metadata": {"serverAddress", "query", "threshold", "activationThreshold", "namespace"}
    | {"ignoreNullValues", "unsafeSsl", "timeout", "customHeaders", "queryParameters"},
    "advanced": {"horizontalPodAutoscalerConfig", "restoreToOriginalReplicaCount"},
    "behavior": {"scaleUp", "scaleDown"},
    "direction": {"stabilizationWindowSeconds", "policies", "selectPolicy"},
}
"""What KEDA 2 knows of a ScaledObject with a trigger of Prometheus."""

every_process = pytest.mark.parametrize("name", PROCESSES)
every_that_serves = pytest.mark.parametrize("name", SERVING)


def allowed(kind: str) -> jsonschema.Draft202012Validator:
    """Give what knows a kind of Kubernetes."""
    return jsonschema.Draft202012Validator(SCHEMA | {"$ref": f"#/$defs/{kind}"})


def given(name: str) -> dict[str, str]:
    """Give the files of secrets of a process: what each is called, and where it comes from."""
    (generator,) = (
        each for each in kustomization(EXAMPLE)["secretGenerator"] if each["name"] == name
    )
    return {Path(file).name: file for file in generator["files"]}


def grace(name: str) -> float:
    """Give the seconds from a pod's notice to its end."""
    seconds: int = pod(name)["spec"]["terminationGracePeriodSeconds"]
    hook = container(name).get("lifecycle", {"preStop": {"exec": {"command": ["sleep", "0"]}}})
    return seconds - float(hook["preStop"]["exec"]["command"][1])


def ports(policy: Manifest, way: str) -> set[int]:
    """Give the ports that a policy opens in one way."""
    return {each["port"] for rule in policy["spec"].get(way, ()) for each in rule["ports"]}


def reached(name: str) -> set[int]:
    """Give the ports that a process may connect to, but for DNS."""
    policies = [
        each for each in of("NetworkPolicy") if name in selected(each["spec"]["podSelector"])
    ]
    return {port for each in policies for port in ports(each, "egress")} - {53}


def test_every_file_is_part_of_what_is_applied() -> None:
    assert set(FILES) == set(FOLDER.rglob("*.yaml"))
    assert len(MANIFESTS) > 20


@pytest.mark.parametrize(
    "manifest", [each for each in MANIFESTS if each["kind"] != "ScaledObject"], ids=named
)
def test_kubernetes_would_take_it(manifest: Manifest) -> None:
    kind = f"{manifest['apiVersion']}/{manifest['kind']}".replace("/", ".")
    allowed(kind).validate(manifest)


def test_kubernetes_would_not_take_a_slip() -> None:
    slip = {"apiVersion": "v1", "kind": "Service", "spec": {"port": 1}}
    with pytest.raises(jsonschema.ValidationError, match="'port' was unexpected"):
        allowed("v1.Service").validate(slip)


def test_keda_would_take_it() -> None:
    spec = one("ScaledObject", "consumers")["spec"]
    (trigger,) = spec["triggers"]
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    parts = {
        "": spec,
        "scaleTargetRef": spec["scaleTargetRef"],
        "trigger": trigger,
        "metadata": trigger["metadata"],
        "advanced": spec["advanced"],
        "behavior": behavior,
        "direction": behavior["scaleUp"] | behavior["scaleDown"],
    }
    assert {name: set(part) - SCALED_OBJECT[name] for name, part in parts.items()} == {
        name: set() for name in SCALED_OBJECT
    }
    assert all(isinstance(each, str) for each in trigger["metadata"].values())
    assert named(one("Deployment", spec["scaleTargetRef"]["name"]))
    assert 0 < spec["minReplicaCount"] < spec["maxReplicaCount"]


def test_who_scales_is_the_only_one_to_say_how_many_there_are() -> None:
    assert "replicas" not in one("Deployment", "consumers")["spec"]


def test_the_backlog_is_measured_by_metrics_that_exist() -> None:
    asked = set(re.findall(r"\bopenim_\w+", QUERY))
    assert len(asked) > 1
    assert asked <= exported(workers_metrics())


def test_the_backlog_is_how_late_the_latest_is_that_does_not_pause(
    promtool: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    of_each = '{{instance="{}", subscription="{}"}}'
    series = [
        *(("openim_consumers_oldest_seconds", "a", "busy", "90+0x20"),),
        *(("openim_consumers_paused", "a", "busy", "0+0x20"),),
        *(("openim_consumers_oldest_seconds", "a", "paused", "900+0x20"),),
        *(("openim_consumers_paused", "a", "paused", "1+0x20"),),
        *(("openim_consumers_oldest_seconds", "b", "retried", "0 700 0 700 0+0x16"),),
        *(("openim_consumers_paused", "b", "retried", "0+0x20"),),
    ]
    test = {
        "interval": "15s",
        "input_series": [
            {"series": name + of_each.format(*labels), "values": values}
            for name, *labels, values in series
        ],
        "promql_expr_test": [
            {"expr": QUERY, "eval_time": "2m", "exp_samples": [{"labels": "{}", "value": 90}]},
        ],
    }
    nothing = test | {
        "input_series": [],
        "promql_expr_test": [
            {"expr": QUERY, "eval_time": "2m", "exp_samples": [{"labels": "{}", "value": 0}]}
        ],
    }
    file = tmp_path / "backlog.yml"
    file.write_text(json.dumps({"rule_files": [], "tests": [test, nothing]}))
    done = subprocess.run(  # noqa: S603
        [promtool, "test", "rules", file],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@every_process
def test_nobody_is_root_or_gets_privileges(name: str) -> None:
    spec = pod(name)["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert {spec["securityContext"][key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {
        int(SERVICES["receiver"]["user"])
    }
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(name)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert PRIVILEGES & (set(spec) | set(container(name)["securityContext"])) == set()
    assert [each for each in spec["volumes"] if "hostPath" in each] == []


@every_process
def test_nobody_can_talk_to_kubernetes(name: str) -> None:
    spec = pod(name)["spec"]
    assert spec["automountServiceAccountToken"] is False
    account = one("ServiceAccount", spec["serviceAccountName"])
    assert account["automountServiceAccountToken"] is False
    assert of("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding") == []


def test_kubernetes_refuses_whoever_asks_for_more() -> None:
    labels = one("Namespace", "openim-bridge")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert kustomization(EXAMPLE)["namespace"] == "openim-bridge"


@every_process
def test_no_service_becomes_a_setting(name: str) -> None:
    assert pod(name)["spec"]["enableServiceLinks"] is False


@every_process
def test_nobody_takes_all_there_is(name: str) -> None:
    resources = container(name)["resources"]
    limits = SERVICES["receiver"]["deploy"]["resources"]["limits"]
    assert resources["limits"]["cpu"] == limits["cpus"]
    assert resources["limits"]["memory"] == limits["memory"] + "i"
    assert set(resources["requests"]) == {"cpu", "memory", "ephemeral-storage"}
    tmp = [each["emptyDir"] for each in pod(name)["spec"]["volumes"] if "emptyDir" in each]
    assert all("sizeLimit" in each for each in tmp)


@every_that_serves
def test_who_dies_or_hangs_is_noticed(name: str) -> None:
    probes = {
        kind: container(name)[kind]["httpGet"]
        for kind in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert probes == {
        "startupProbe": {"path": "/livez", "port": "http"},
        "readinessProbe": {"path": "/readyz", "port": "http"},
        "livenessProbe": {"path": "/livez", "port": "http"},
    }


@every_process
def test_a_process_is_the_one_of_compose(name: str) -> None:
    service = SERVICES[name]
    assert container(name)["image"] == service["image"]
    assert {name: service["command"], "operator": ["sleep", "infinity"]}[name] == container(
        name
    )["args"]
    compose = {key for key in service["environment"] if key.endswith("_FILE")}
    assert {key for key in environment(name) if key.endswith("_FILE")} == compose


@every_that_serves
def test_a_port_is_the_one_that_the_image_has(name: str) -> None:
    (port,) = container(name)["ports"]
    exposed = re.findall(
        r"^EXPOSE (.*)$", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE
    )[0].split()
    kind = STARTS[name]
    setting = environment(name).get(f"{kind.table}_port".upper(), str(kind().port))
    assert str(port["containerPort"]) == setting
    assert setting in exposed
    annotations = pod(name)["metadata"].get("annotations", {})
    assert annotations.get("prometheus.io/port", setting) == setting


@every_process
def test_variables_are_settings(name: str) -> None:
    assert set(environment(name)) <= variables()


@every_that_serves
def test_a_process_starts_with_what_it_is_given(name: str, tmp_path: Path) -> None:
    make_secrets.main(tmp_path, "rabbitmq.rabbitmq", "postgres-rw.postgres")
    there = {
        f"/run/secrets/{called}": str(EXAMPLE / file).replace(
            str(EXAMPLE / "secrets"), str(tmp_path)
        )
        for called, file in given(name).items()
    } | {SETTINGS: str(FOLDER / "base" / Path(SETTINGS).name)}
    found = load(
        STARTS[name],
        {key: there.get(value, value) for key, value in environment(name).items()},
    )
    assert found.host == "0.0.0.0"  # noqa: S104


@every_process
def test_each_sees_its_own_secrets_only(name: str, tmp_path: Path) -> None:
    files = {
        value.removeprefix("/run/secrets/")
        for key, value in environment(name).items()
        if key.endswith("_FILE")
    }
    assert set(given(name)) == files
    make_secrets.main(tmp_path)
    made = {path.name for path in (tmp_path / "for" / name).iterdir()}
    assert files == made
    secrets = [each["secret"] for each in pod(name)["spec"]["volumes"] if "secret" in each]
    assert secrets == [{"secretName": name, "defaultMode": 0o440}]


@every_process
def test_secrets_come_as_files(name: str) -> None:
    words = re.compile("PASS|SECRET|TOKEN|URL|COOKIE|KEY")
    assert all(key.endswith("_FILE") for key in environment(name) if words.search(key))
    assert "://" not in str(environment(name)) + str(container(name)["args"])


def test_a_receiver_has_its_journal_on_a_volume_that_outlives_it() -> None:
    spec = one("StatefulSet", "receiver")["spec"]
    (claim,) = spec["volumeClaimTemplates"]
    mounted = {
        each["name"]: each["mountPath"] for each in container("receiver")["volumeMounts"]
    }
    path = Path(environment("receiver")["BRIDGE_JOURNAL_PATH"])
    assert path.is_relative_to(mounted[claim["metadata"]["name"]])
    size = int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi")) * 2**30
    settings = load(Receiver, {"BRIDGE_CONFIG": str(FOLDER / "base" / Path(SETTINGS).name)})
    assert size > settings.journal_quota * 1.2
    kept = spec["persistentVolumeClaimRetentionPolicy"]
    assert set(kept.values()) == {"Retain"}


def test_receivers_start_together_and_are_replaced_one_by_one() -> None:
    spec = one("StatefulSet", "receiver")["spec"]
    assert spec["podManagementPolicy"] == "Parallel"
    assert spec["updateStrategy"] == {"type": "RollingUpdate"}
    assert spec["replicas"] > 1


def test_a_stop_has_the_time_that_it_may_take() -> None:
    # The receiver answers what comes in, and then publishes for as long again.
    assert grace("receiver") > 2 * Receiver().grace_period + 5
    assert grace("consumers") > Worker().grace_period + 5
    assert grace("api") > 10


@pytest.mark.parametrize("name", ["receiver", "consumers", "api"])
def test_nodes_that_are_drained_or_die_take_few(name: str) -> None:
    budget = one("PodDisruptionBudget", name)["spec"]
    assert budget["maxUnavailable"] == 1
    assert selected(budget["selector"]) == {name}
    spread = pod(name)["spec"]["topologySpreadConstraints"]
    assert {each["topologyKey"] for each in spread} == {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    }
    assert all(selected(each["labelSelector"]) == {name} for each in spread)


@pytest.mark.parametrize("service", of("Service"), ids=named)
def test_a_service_leads_to_pods(service: Manifest) -> None:
    (name,) = selected({"matchLabels": service["spec"]["selector"]})
    (port,) = service["spec"]["ports"]
    assert port["port"] == container(name)["ports"][0]["containerPort"]
    assert port["targetPort"] == container(name)["ports"][0]["name"]


@every_process
def test_a_process_finds_its_own_pods(name: str) -> None:
    (owner,) = (each for each in of("StatefulSet", "Deployment") if name in named(each))
    assert selected(owner["spec"]["selector"]) == {name}


def test_receivers_have_names_of_their_own() -> None:
    service = one("Service", one("StatefulSet", "receiver")["spec"]["serviceName"])
    assert service["spec"]["clusterIP"] == "None"
    settings = load(Console, {"CONSOLE_CONFIG": str(FOLDER / "base" / Path(SETTINGS).name)})
    replicas = one("StatefulSet", "receiver")["spec"]["replicas"]
    wanted = [f"http://receiver-{number}.receivers:10006" for number in range(replicas)]
    assert settings.receivers.split(",") == wanted


def test_only_what_openim_calls_comes_in_from_outside() -> None:
    (ingress,) = of("Ingress")
    (rule,) = ingress["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert path["path"] == Receiver().path
    assert path["backend"]["service"] == {"name": "receiver", "port": {"name": "http"}}
    assert {each["spec"].get("type", "ClusterIP") for each in of("Service")} == {"ClusterIP"}


def test_nobody_talks_unless_it_is_said() -> None:
    (closed,) = (
        each["spec"]
        for each in of("NetworkPolicy")
        if each["spec"]["podSelector"] == {} and len(each["spec"]["policyTypes"]) > 1
    )
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    open_to_all = [
        named(each)
        for each in of("NetworkPolicy")
        for way, who in (("ingress", "from"), ("egress", "to"))
        for rule in each["spec"].get(way, ())
        if not rule.get(who) or not rule.get("ports")
    ]
    assert open_to_all == []


def test_each_reaches_what_it_needs_and_no_more() -> None:
    amqp, management, sql = {5671, 5672}, {15671, 15672}, {5432}
    assert {name: reached(name) for name in PROCESSES} == {
        "receiver": amqp,
        "consumers": amqp | sql,
        "api": sql,
        "console": amqp | management | sql | {10006},
        "operator": amqp | management | sql,
    }


@pytest.mark.parametrize("policy", of("NetworkPolicy"), ids=named)
def test_a_policy_is_about_pods_and_ports_that_are_there(policy: Manifest) -> None:
    about = selected(policy["spec"]["podSelector"])
    own = {port["containerPort"] for name in about for port in container(name).get("ports", ())}
    assert about
    assert ports(policy, "ingress") <= own


def test_nobody_is_called_but_who_serves_others() -> None:
    called = {
        name
        for each in of("NetworkPolicy")
        if each["spec"].get("ingress")
        for name in selected(each["spec"]["podSelector"])
    }
    assert called == {"receiver", "consumers", "api", "console"}


@pytest.mark.parametrize("name", PROCESSES)
def test_who_is_to_be_scraped_may_be(name: str) -> None:
    about = pod(name)["metadata"].get("annotations", {})
    scraped = {int(about["prometheus.io/port"])} if "prometheus.io/scrape" in about else set()
    label = {"matchLabels": {"openim-bridge/scrapes": "yes"}}
    open_to_prometheus = {
        port["port"]
        for each in of("NetworkPolicy")
        if name in selected(each["spec"]["podSelector"])
        for rule in each["spec"].get("ingress", ())
        for port in rule["ports"]
        if {"namespaceSelector": label} in rule["from"]
    }
    assert open_to_prometheus == scraped


def test_the_page_has_every_scrape_that_alerts_need() -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^    scrape_configs:\n(?:      .*\n)+", page, re.MULTILINE)
    here = {
        each["job_name"]: each for each in YAML(typ="safe").load(dedent(text))["scrape_configs"]
    }
    compose = (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    there = {
        each["job_name"]: each for each in YAML(typ="safe").load(compose)["scrape_configs"]
    }
    assert {"rabbitmq", "rabbitmq-queues"} < here.keys()
    for name in here.keys() & there.keys():
        assert here[name].get("params") == there[name].get("params")
        assert here[name].get("metrics_path") == there[name].get("metrics_path")


def test_the_image_is_named_for_those_who_copy_the_example() -> None:
    images: list[dict[str, Any]] = kustomization(EXAMPLE)["images"]
    assert {each["name"] for each in images} == {container(name)["image"] for name in PROCESSES}
