"""What the plans of all GPU engines have in common: image, environment, caches, and the options of one's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from slipway.config.engine import EngineConfig
from slipway.config.image import ImageConfig
from slipway.config.target import SlurmConfig, TargetConfig
from slipway.engines.contract import Contract
from slipway.engines.driver import CacheSpec, Limits, ServePlan
from slipway.engines.model_facts import ModelFacts
from slipway.errors import ConfigError
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Checkpoint, Quantized

# No model is looked up and nothing is reported over a network that the machine may lack.
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "DO_NOT_TRACK": "1"}
# What every engine's kernels write while it starts. `flashinfer` and `torch_extensions` are judged by mtimes: copies
# must keep them.
CACHES = (
    CacheSpec(name="triton", path="triton", variable="TRITON_CACHE_DIR"),
    CacheSpec(name="inductor", path="inductor", variable="TORCHINDUCTOR_CACHE_DIR"),
    CacheSpec(name="torch_extensions", path="torch_extensions", variable="TORCH_EXTENSIONS_DIR"),
    CacheSpec(name="flashinfer", path="flashinfer", variable="FLASHINFER_WORKSPACE_BASE"),
    CacheSpec(name="cuda", path="cuda", variable="CUDA_CACHE_PATH"),
    CacheSpec(name="xdg", path="xdg", variable="XDG_CACHE_HOME"),
)
_CUDA_CACHE_BYTES = str(4 << 30)  # the driver's default of 1 GB drops what it compiled from PTX
_SECRET = re.compile(
    r"(?:^|_)(?:API_?KEYS?|TOKEN|SECRET|PASSW(?:OR)?D|PASSPHRASE|CREDENTIALS?|(?:ACCESS|PRIVATE|SECRET)_KEY(?:_ID)?)$",
    re.IGNORECASE,
)
PLACES = ("{bundle}", "{model}", "{cache}", "{host}", "{port}")


def environment(caches: tuple[CacheSpec, ...], params: EngineConfig, own: Mapping[str, str]) -> dict[str, str]:
    """All variables of a server: offline, few compilers at a time, every cache below `{cache}`; the config's win.

    Raises ConfigError for a variable of the config that leads a cache elsewhere: the bundle would not hold it; and for
    one that is named like a secret, whose value is not shown: it would lie in the bundle, and in what is signed.
    """
    for name in params.environment:
        if _SECRET.search(name):
            expected = "no secret in a bundle, which travels with its plan"
            next_step = f"leave it out; keys and TLS of clients: {_OF_THE_PROXY['api-key']}, deploy.proxy.tls_file"
            raise ConfigError(f"engine.environment.{name}", "set", expected, next_step)
    led = {cache.variable: f"{{cache}}/{cache.path}" for cache in caches}
    if taken := sorted(led.keys() & params.environment.keys()):
        raise ConfigError(
            f"engine.environment.{taken[0]}",
            params.environment[taken[0]],
            f"{led[taken[0]]}, which the bundle keeps",
            "leave it out",
        )
    jobs = {"MAX_JOBS": str(params.build_jobs), "CUDA_CACHE_MAXSIZE": _CUDA_CACHE_BYTES}
    return dict(sorted({**OFFLINE, **jobs, **own, **led, **params.environment}.items()))


def image_reference(image: ImageConfig, arch: str) -> str:
    """`repository@sha256:...` where the image is pinned for `arch`, else `repository:tag`."""
    digest = next((d for a, d in image.digests.items() if a == arch), None)
    return f"{image.repository}@{digest}" if digest else f"{image.repository}:{image.tag}"


def require_image(image: ImageConfig | None, kind: str) -> tuple[ImageConfig, str]:
    """The image and the version whose contract it follows. Raises ConfigError when either is missing."""
    if image is None:
        raise ConfigError("engine.image", "none", f"a row of conf/images.yaml that holds {kind}", "set engine.image")
    if image.contract is None:
        raise ConfigError(
            f"image {image.repository}:{image.tag}",
            "no contract",
            "the version of the engine in it",
            "give its row of conf/images.yaml a `contract`",
        )
    return image, image.contract


def require_pinned(plan: ServePlan, image: ImageConfig | None, target: TargetConfig) -> ServePlan:
    """The plan, when its image is pinned by digest for the target. Raises ConfigError when it is not."""
    from slipway.containers.images import pinned

    if image is not None:
        pinned(image, target.arch)
    return plan


def program(whole: list[str], image: ImageConfig | None, target: TargetConfig) -> list[str]:
    """A command as the image takes it: a docker engine runs the image's entrypoint, and the program that it starts is
    left out; Pyxis runs none. Raises ConfigError when the entrypoint starts another program."""
    if image is None or not image.entrypoint or isinstance(target.runner, SlurmConfig):
        return whole
    if whole[: len(image.entrypoint)] != image.entrypoint:
        raise ConfigError(
            f"entrypoint of image {image.repository}",
            " ".join(image.entrypoint),
            f"[] or the beginning of `{' '.join(whole[:3])}`",
            "mend its row of conf/images.yaml",
        )
    return whole[len(image.entrypoint) :]


def write_model(checkpoint: Checkpoint | Quantized, space: Workspace) -> None:
    """Write a virtual checkpoint out as `space.out/model`; any other is loaded where it lies."""
    from slipway.weights.checkpoint import is_virtual, materialize

    if is_virtual(checkpoint):
        out = space.out / "model"
        out.mkdir()
        materialize(checkpoint, out, space.progress)


def model_notes(facts: ModelFacts, kv_dtype: str, target: TargetConfig, image: ImageConfig | None) -> list[str]:
    """What a person should know of this model on this target, in this image."""
    notes = []
    if not facts.chat_template:
        notes.append("The model has no chat template: chat requests fail, completions work.")
    if kv_dtype == "fp8" and not facts.kv_scales:
        notes.append("FP8 KV cache: the checkpoint has no scales for it, they are 1.")
    if image is not None and isinstance(target.runner, SlurmConfig):
        notes.append("Pyxis does not run the image's entrypoint: the driver must be as new as its CUDA.")
    if target.unified_memory:
        notes.append("Unified memory: start only one server at a time, under the load guard.")
    return notes


def across_nodes(limits: Limits, target: TargetConfig) -> bool:
    """Whether the ranks are on several nodes. Raises ConfigError where nothing starts them there."""
    ranks = limits.tensor_parallel * limits.pipeline_parallel
    if ranks > target.gpus and not isinstance(target.runner, SlurmConfig):
        raise ConfigError(
            f"engine on target {target.name}",
            f"{ranks} ranks on {target.nodes} nodes through {target.runner.kind}",
            "a target under Slurm, which starts them on every node",
            "choose another with layers.serving=targets/..., or lower engine.tensor_parallel",
        )
    return ranks > target.gpus


# Option of a server -> what is set instead. A key on a command line is read by every user of the machine, and lies in
# the bundle; an engine that asks for one, or for TLS, is asked by nobody here: both end at the proxy.
_OF_THE_PROXY = {
    "api-key": "deploy.proxy.key_file",
    "hf-token": "HF_TOKEN where models are downloaded (stage fetch)",
    "ssl-keyfile": "deploy.proxy.tls_file",
    "ssl-certfile": "deploy.proxy.tls_file",
    "ssl-ca-certs": "deploy.proxy.tls_file",
    "ssl-cert-reqs": "deploy.proxy.tls_file",
    "ssl-ciphers": "deploy.proxy.tls_file",
    "enable-ssl-refresh": "deploy.proxy.tls_file",
}


def own_flags(params: EngineConfig, contract: Contract, decided: Mapping[str, str]) -> dict[str, Any]:
    """`engine.flags` by their names in the contract. Raises ConfigError for an unknown one, for one that a key of the
    config decides (`decided`: option -> key): the plan would say another thing than the server does; and for keys and
    TLS of the server, whose values are not shown."""
    flags: dict[str, Any] = {}
    decided = {contract.canonical(name): key for name, key in decided.items()}
    for name, value in params.flags.items():
        if instead := _OF_THE_PROXY.get(name.lstrip("-").replace("_", "-")):
            expected = "no secret on a command line, and a server that the proxy and the checks can ask"
            raise ConfigError(f"engine.flags.{name}", "set", expected, f"leave it out; {instead}")
        canonical = contract.canonical(name)
        if canonical in decided:
            key = decided[canonical]
            step = f"set {key} instead" if key else "leave it out: it is decided at each start"
            raise ConfigError(f"engine.flags.{name}", value, "an option that no key of the config decides", step)
        if any(place in str(value) for place in PLACES):
            raise ConfigError(f"engine.flags.{name}", value, f"a value without {', '.join(PLACES)}", "write it out")
        flags[canonical] = value
    return flags
