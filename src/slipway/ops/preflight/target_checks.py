"""What the target of a promotion says, before anything is made for it: reached, its host key, GPU, image, memory,
ports."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from slipway.config.deploy import DeployConfig
from slipway.config.image import ImageConfig
from slipway.config.load import Config
from slipway.config.ssh import SshConfig
from slipway.containers.images import check_before_pull, pinned
from slipway.deployment.target import session
from slipway.engines.format_support import capability, formats_of
from slipway.errors import ConfigError, SlipwayError
from slipway.ops.doctor import deploy_ports
from slipway.ops.preflight.finding import HERE, Finding, of_check, of_error
from slipway.ops.preflight.kubernetes_checks import kubernetes_checks
from slipway.ops.preflight.machine_checks import Needs, gpu_memory, machine_checks
from slipway.ops.preflight.slurm_checks import slurm_checks
from slipway.planning.fit import Fit, cannot_tell, fit, gpu_room
from slipway.planning.kv_cache import UnknownCacheError
from slipway.planning.serving_capacity import FORMAT_BYTES, Capacity, Wish, model_of, serving_capacity
from slipway.planning.serving_forecast import ServingForecast, serving_forecast

COPIES = 2  # a release is unpacked beside what arrived of it


def target_checks(config: Config, release_bytes: float) -> Iterator[Finding]:
    """The rows of `deploy.target`. `release_bytes`: what a release takes there, 0 where nobody knows."""
    deploy = config.deploy
    yield from serving_checks(config)
    if deploy.target == "auto":
        yield Finding("target auto", "target", "ok", "chosen by the run, when the model's size is known")
    elif deploy.kind == "local":
        yield of_check(HERE, deploy_ports(deploy))
    elif deploy.kind == "kubernetes" and deploy.kubernetes:
        yield from kubernetes_checks(config, deploy.kubernetes)
    elif deploy.kind in ("spark", "slurm"):
        yield from agent_checks(config, deploy, release_bytes)
        if deploy.kind == "slurm" and (job := deploy.slurm):
            yield from slurm_checks(f"target {deploy.target}", job.partition, 1, job.gpus, job.time_limit)


def serving_checks(config: Config) -> Iterator[Finding]:
    """The format against the GPU that serves, and the memory of one: nothing is asked, the row says it."""
    serving, engine = config.serving, config.engine
    if not serving.gpus or engine.kind == "llama.cpp":
        return
    where, name = f"serving on {serving.name}", f"format {config.quantize.format}"
    try:
        known = {one for one, _ in formats_of(engine.kind, capability(serving.compute_capability, serving.name))}
    except ConfigError as err:
        yield of_error(where, name, err)
        return
    runs = config.quantize.format in known
    finding = f"{engine.kind} on {serving.compute_capability} {'runs it' if runs else 'does not run it'}"
    yield Finding(where, name, "ok" if runs else "fail", finding, "" if runs else f"one of {', '.join(sorted(known))}")
    yield gpu_memory(where, f"{engine.slots} requests of {engine.context:,} tokens", serving_fit(config))


def serving_plan(config: Config) -> Capacity:
    """The model and its requests on one GPU of the serving row, by `slipway capacity`'s figures. Raises
    UnknownCacheError and others as `serving_capacity`."""
    engine = config.engine
    kv = "fp8" if engine.kv_dtype == "fp8" else "bf16"
    wish = Wish(engine.slots, engine.context, kv, False, engine.tensor_parallel or 1, engine.batched_tokens)
    return serving_capacity(model_of(config.model, weights_of(config)), wish, config.serving)


def weights_of(config: Config) -> str:
    """The format of the served weights as `FORMAT_BYTES` names it; bf16 for one that it has not."""
    name = config.quantize.format.removesuffix("a16").removesuffix("-dynamic").removesuffix("-block")
    return name if name in FORMAT_BYTES else "bf16"


def forecast(config: Config) -> ServingForecast | None:
    """Speed and start of the GPU engine that this config serves with; None for another, and where nobody can tell."""
    if not config.serving.gpus or config.engine.kind == "llama.cpp":
        return None
    try:
        plan = serving_plan(config)
    except SlipwayError:  # a row of the preflight says why
        return None
    engine = config.engine
    return serving_forecast(config.model, weights_of(config), engine.kind, engine.context, config.serving, plan)


def serving_fit(config: Config) -> Fit:
    """Whether one GPU of the serving row holds the model and its requests."""
    way_out = "engine.slots, engine.context or engine.kv_dtype; `slipway capacity` lists what is enough"
    room = gpu_room(config.serving) or 0.0
    try:
        plan = serving_plan(config)
    except UnknownCacheError as err:
        return cannot_tell(str(err.value).removeprefix("cannot tell: "), "start its engine once, or give engine.kv_gb")
    return fit(engine_bytes(plan), room, way_out=way_out)


def engine_bytes(plan: Capacity) -> float:
    """What the engine takes of one GPU with all the requests that are wished for."""
    return plan.weights + plan.compute + plan.request * plan.wish.users


def agent_checks(config: Config, deploy: DeployConfig, release_bytes: float) -> Iterator[Finding]:
    """What the agent of a target says of its machine. A target that does not answer is a row, not an error."""
    where, image = f"target {deploy.target}", _image(config)
    if deploy.ssh and deploy.kind == "spark":
        yield host_key(where, deploy.ssh)
    reference = pinned(image, config.serving.arch) if image else ""
    try:
        with session(deploy) as target:
            answer = target.call("probe", {"images": [reference] if reference else []})
        now = time.time()
    except SlipwayError as err:
        yield of_error(where, "agent", err)
        return
    needs = Needs(
        disk=COPIES * release_bytes,
        architecture=config.serving.arch,
        row=config.serving,
        images=(reference,) if reference else (),
        driver=(image.driver or "") if image else "",
    )

    def pullable(_: str, arch: str) -> str:
        return check_before_pull(image, arch) if image else ""

    yield from machine_checks(where, answer, needs, now, pullable)
    yield from programs(where, deploy, answer)


def host_key(where: str, ssh: SshConfig) -> Finding:
    """Whether the host's key is pinned: no other is believed."""
    from slipway.deployment.ssh.keys import host_name, known_keys

    pinned_in = Path(ssh.known_hosts).expanduser()
    if known_keys(ssh, pinned_in):
        return Finding(where, "host key", "ok", f"pinned in {pinned_in}")
    finding = f"{host_name(ssh)} is not in {pinned_in}"
    return Finding(where, "host key", "fail", finding, "`slipway target set-up` pins it, after you have compared it")


def programs(where: str, deploy: DeployConfig, answer: Mapping[str, Any]) -> Iterator[Finding]:
    """The proxy and the copier that a promotion to it starts."""
    wanted = ["rsync", *(["haproxy"] if deploy.proxy.kind != "none" else [])] if deploy.kind == "spark" else []
    for name in wanted:
        version = answer.get(name)
        advice = "" if version else f"install {name} there"
        yield Finding(where, name, "ok" if version else "fail", str(version or "not installed"), advice)


def _image(config: Config) -> ImageConfig | None:
    from slipway.stages.engine import params_of

    image = params_of(config).serving_image
    return image if image and image.digests.get(config.serving.arch) else None
