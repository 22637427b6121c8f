"""What a Kubernetes cluster says before a release is made for it: its version, whether it lets us into the namespace,
and nodes that can take the pods.

A node can take a pod when it is ready and schedulable, has the labels that the pod selects, no taint that the pod does
not tolerate, and when what it can give (`status.allocatable`) holds what the pod asks for. What other pods have of it
now is not counted: those of the release before leave when the new one serves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slipway.config.kubernetes import KubernetesConfig
from slipway.config.load import Config
from slipway.deployment.kubernetes.api import KubernetesAPI
from slipway.errors import SlipwayError
from slipway.ops.preflight.finding import Finding, of_error

GPU = "nvidia.com/gpu"
UNITS = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
UNITS |= {f"{letter}i": 2.0 ** (10 * power) for power, letter in enumerate("KMGTP", start=1)}
Node = Mapping[str, Any]


@dataclass(frozen=True)
class PodNeeds:
    """What each of `replicas` pods asks of its node: labels, CPUs, bytes of memory, GPUs."""

    labels: Mapping[str, str]
    cpus: float
    memory: float
    gpus: int
    replicas: int


def kubernetes_checks(config: Config, params: KubernetesConfig) -> Iterator[Finding]:
    """The rows of a target that is a cluster. One that does not answer is a row that fails; one that does not say what
    nodes it has is one that warns."""
    where = f"target {config.deploy.target}"
    try:
        api = KubernetesAPI(params)
        yield version(where, api.server_version(), params)
        api.list("Pod", {"app": params.name})
    except SlipwayError as err:
        yield of_error(where, "API server", err)
        return
    try:
        nodes = api.nodes()
    except SlipwayError as err:
        yield of_error(where, "nodes", err, "warn")
        return
    yield nodes_for(where, nodes, needs_of(config, params))


def needs_of(config: Config, params: KubernetesConfig) -> PodNeeds:
    """What a pod of this config asks for, as `deployment.kubernetes.pod` writes it."""
    engine = config.engine
    gpus = 0 if engine.kind == "llama.cpp" else (engine.tensor_parallel or 1)
    labels = {"kubernetes.io/arch": config.serving.arch, **params.node_selector}
    return PodNeeds(labels, params.cpus, params.memory_gb * 1e9, gpus, params.replicas)


def version(where: str, there: str, params: KubernetesConfig) -> Finding:
    """The cluster's version against the one that decides which fields are written."""
    if there == params.version:
        return Finding(where, "API server", "ok", f"Kubernetes {there}, namespace {params.namespace}")
    finding = f"Kubernetes {there}; deploy.kubernetes.version={params.version}"
    return Finding(where, "API server", "warn", finding, "set it to the cluster's: it decides which fields are written")


def nodes_for(where: str, nodes: Sequence[Node], needs: PodNeeds) -> Finding:
    """Whether the nodes can take all pods."""
    lacks = {str(node.get("metadata", {}).get("name", "?")): lack(node, needs) for node in nodes}
    room = sum(pods_on(node, needs) for node in nodes if not lacks[str(node.get("metadata", {}).get("name", "?"))])
    asked = f"{needs.cpus:g} CPUs, {needs.memory / 1e9:g} GB" + (f", {needs.gpus} GPUs" if needs.gpus else "")
    finding = f"{len(nodes)} nodes take {room} pods of {asked}; {needs.replicas} are asked for"
    refused = "; ".join(f"{name}: {why}" for name, why in sorted(lacks.items())[:5] if why)
    finding += f" ({refused})" if refused else ""
    if room >= needs.replicas:
        return Finding(where, "nodes", "ok", finding)
    advice = "deploy.kubernetes: cpus, memory_gb, node_selector, replicas; or engine.tensor_parallel"
    return Finding(where, "nodes", "fail", finding, advice)


def lack(node: Node, needs: PodNeeds) -> str:
    """Why a node takes none of the pods; empty where it takes one or more."""
    spec, status = node.get("spec") or {}, node.get("status") or {}
    labels = (node.get("metadata") or {}).get("labels") or {}
    if spec.get("unschedulable"):
        return "unschedulable"
    if not any(one.get("type") == "Ready" and one.get("status") == "True" for one in status.get("conditions") or ()):
        return "not ready"
    for key, value in needs.labels.items():
        if labels.get(key) != value:
            return f"{key} is {labels.get(key, 'not set')}, not {value}"
    for taint in spec.get("taints") or ():
        tolerated = needs.gpus and taint.get("key") == GPU
        if taint.get("effect") in ("NoSchedule", "NoExecute") and not tolerated:
            return f"taint {taint.get('key')}"
    return "" if pods_on(node, needs) else "too small"


def pods_on(node: Node, needs: PodNeeds) -> int:
    """How many such pods what the node can give holds; 0 where it does not say."""
    given = (node.get("status") or {}).get("allocatable") or {}
    wanted = {"cpu": needs.cpus, "memory": needs.memory, GPU: float(needs.gpus)}
    return int(min(quantity(given.get(name)) // amount for name, amount in wanted.items() if amount))


def quantity(value: object) -> float:
    """`3920m`, `1031Gi` or `8` as a number; 0 for what is none."""
    match = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(value))
    return float(match[1]) * UNITS.get(match[2], 0.0) if match else 0.0
