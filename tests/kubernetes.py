"""The manifests in deploy/kubernetes, put together as `kubectl kustomize` does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy" / "kubernetes"
EXAMPLE = FOLDER / "example"

Manifest: TypeAlias = dict[str, Any]

PODS = {"StatefulSet", "Deployment"}


def read(path: Path) -> list[Manifest]:
    """Read the documents of a file."""
    return list(YAML(typ="safe").load_all(path))


def kustomization(folder: Path) -> Manifest:
    """Read what a folder consists of."""
    (found,) = read(folder / "kustomization.yaml")
    return found


def used(folder: Path) -> Iterator[Path]:
    """Give every file that a folder consists of, those of other folders included."""
    yield folder / "kustomization.yaml"
    of = kustomization(folder)
    for name in (*of.get("resources", ()), *of.get("components", ())):
        path = (folder / name).resolve()
        yield from used(path) if path.is_dir() else [path]


FILES = sorted(used(EXAMPLE))
MANIFESTS = [
    manifest for path in FILES if path.name != "kustomization.yaml" for manifest in read(path)
]


def named(manifest: Manifest) -> str:
    """Say which one it is."""
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def of(*kinds: str) -> list[Manifest]:
    """Give all of a kind, or of some."""
    return [manifest for manifest in MANIFESTS if manifest["kind"] in kinds]


def one(kind: str, name: str) -> Manifest:
    """Give the one of that kind and name."""
    (found,) = (each for each in of(kind) if each["metadata"]["name"] == name)
    return found


def pod(name: str) -> Manifest:
    """Give what the pods of a process are like."""
    (found,) = (each for each in of(*PODS) if each["metadata"]["name"] == name)
    template: Manifest = found["spec"]["template"]
    return template


def container(name: str) -> Manifest:
    """Give the container of a process."""
    (found,) = pod(name)["spec"]["containers"]
    return dict(found)


def environment(name: str) -> dict[str, str]:
    """Give the variables of a process."""
    return {each["name"]: each["value"] for each in container(name)["env"]}


def selected(selector: Manifest) -> set[str]:
    """Give the processes whose pods a selector is about."""
    return {name for name in PROCESSES if _fits(pod(name)["metadata"]["labels"], selector)}


def _fits(labels: dict[str, str], selector: Manifest) -> bool:
    named = selector.get("matchLabels", {}).items()
    among = selector.get("matchExpressions", ())
    return named <= labels.items() and all(
        labels.get(each["key"]) in each["values"] for each in among
    )


PROCESSES = [each["metadata"]["name"] for each in of(*PODS)]
