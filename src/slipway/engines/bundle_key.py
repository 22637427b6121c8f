"""What a bundle's caches are valid for, field by field, and which fields differ when they are not.

    digest = sha256(canonical JSON of the document)
    a cache is used  <=>  misses(its document, the document of this start) is empty

The engines do not check this themselves: TensorRT-LLM's tuned tactics of another GPU load clean, vLLM's compiled graphs
collide for two models of one shape. So the document holds everything that compiling or tuning can see, and the whole
rendered command besides: a flag nobody thought of is a miss too. `unknown` equals nothing, not even another `unknown`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import Field

from slipway.config.base import Section
from slipway.engines.driver import CacheSpec, ServePlan
from slipway.engines.machine_facts import NONE, UNKNOWN, MachineFacts
from slipway.system.files import canonical, sha256_bytes

SHOWN = 160  # characters of a value in a sentence
ABSENT = "absent"


class KeyDocument(Section):
    """Everything that decides what an engine compiles, tunes and captures while it starts."""

    format: int = Field(1, description="Version of this document's meaning.")
    weights: str = Field(description="Digest of the checkpoint that is served.")
    quantization: str = Field(description="sha256 of the checkpoint's quantization config; none: unquantized.")
    weights_format: str = Field(description="Format of the weights.")
    computes: str = Field(description="What the kernels compute in.")
    kind: str = Field(description="Engine.")
    build: str = Field(description="Id of the program.")
    image: str = Field(description="Container image by digest; none: installed on the machine.")
    contract: str = Field(description="List of options that the command was checked against; none: unchecked.")
    engine: str = Field(description="Version of the engine's package.")
    torch: str = Field(description="Version of torch.")
    cuda: str = Field(description="CUDA version of torch.")
    compilers: str = Field(description="Versions of the packages that compile kernels.")
    python: str = Field(description="Version of Python.")
    driver: str = Field(description="Version of the GPU's driver.")
    gpu: str = Field(description="Names of the GPUs and their number.")
    capability: str = Field(description="CUDA compute capability.")
    gpu_memory: str = Field(description="Memory of a GPU, MiB.")
    architecture: str = Field(description="CPU architecture.")
    cpu: str = Field(description="Digest of the CPU's instructions: code for the host is compiled for them.")
    target: str = Field(description="Row of conf/targets/.")
    tensor_parallel: int = Field(description="GPUs that share every layer.")
    pipeline_parallel: int = Field(description="Groups of GPUs that share the layers.")
    kv_dtype: str = Field(description="Type of the KV cache.")
    kv_bytes: int | None = Field(description="Bytes of the KV cache; null: the engine's choice.")
    context: int = Field(description="Tokens of one request.")
    slots: int = Field(description="Requests decoded together.")
    batched_tokens: int | None = Field(description="Tokens of one scheduler step; null: the engine's choice.")
    graph_sizes: list[int] = Field(description="Batch sizes with a CUDA graph.")
    speculation: str = Field(description="Options of speculative decoding in the command; none: off.")
    loader: str = Field(description="How weights are loaded, as the command says; none: the engine's default.")
    argv: list[str] = Field(description="The whole command, with placeholders.")
    files: dict[str, str] = Field(description="Config files in the bundle, name -> text.")
    environment: dict[str, str] = Field(description="Environment, with placeholders.")
    caches: list[CacheSpec] = Field(description="Caches and the variables that lead to them.")

    def digest(self) -> str:
        """sha256 of the document, hex. It names the document; whether a cache fits is `misses`' to say."""
        return sha256_bytes(canonical(self.model_dump(mode="json")))

    def unknown_fields(self) -> list[str]:
        """Fields whose value nobody could read: a cache made or met under this document is never used."""
        return [name for name in type(self).model_fields if getattr(self, name) == UNKNOWN]


@dataclass(frozen=True)
class Miss:
    """One thing that differs: a field of the key, or a file of the caches. `then`: at harvest, `now`: at this start."""

    subject: str
    then: str
    now: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.then[:SHOWN]}, now {self.now[:SHOWN]}"


def key_document(plan: ServePlan, facts: MachineFacts, weights: str, quantization: object = None) -> KeyDocument:
    """The document of a plan on a machine. `weights`: digest of the checkpoint. `quantization`: its quantization
    config as JSON values, None where it has none."""
    limits = plan.limits
    return KeyDocument(
        weights=weights,
        quantization=NONE if quantization is None else sha256_bytes(canonical(quantization)),
        weights_format=plan.weights,
        computes=plan.computes,
        kind=plan.kind,
        build=plan.build,
        image=plan.image or NONE,
        contract=plan.contract or NONE,
        target=plan.target,
        speculation=_options(plan, "speculat", "draft"),
        loader=_options(plan, "load-format", "load_format", "loader", "mmap"),
        argv=plan.argv,
        files=plan.files,
        environment=plan.environment,
        caches=plan.caches,
        **limits.model_dump(),
        **facts.model_dump(),
    )


def misses(then: KeyDocument, now: KeyDocument) -> list[Miss]:
    """Every field that differs, with both values; in commands, files and environments the part that differs. A field
    that is unknown on either side is a miss."""
    old, new = then.model_dump(mode="json"), now.model_dump(mode="json")
    differences = []
    for name in type(now).model_fields:
        if old[name] != new[name]:
            differences += _parts(name, old[name], new[name])
        elif old[name] == UNKNOWN:
            differences.append(Miss(name, UNKNOWN, UNKNOWN))
    return differences


def _options(plan: ServePlan, *marks: str) -> str:
    """Options of the command and lines of its config files that hold one of these marks, with their values."""
    words = [argument for index, argument in enumerate(plan.argv) if _marked(plan.argv, index, marks)]
    lines = [line.strip() for text in plan.files.values() for line in text.splitlines() if _has(line, marks)]
    return " ".join([*words, *lines]) or NONE


def _marked(argv: list[str], index: int, marks: tuple[str, ...]) -> bool:
    """Whether the argument is such an option, or the value that follows one."""
    argument = argv[index]
    if argument.startswith("-"):
        return _has(argument, marks)
    return index > 0 and argv[index - 1].startswith("-") and "=" not in argv[index - 1] and _has(argv[index - 1], marks)


def _has(text: str, marks: tuple[str, ...]) -> bool:
    return any(mark in text.lower() for mark in marks)


def _parts(name: str, old: Any, new: Any) -> list[Miss]:
    """A mapping's or list's entries that differ; a plain value as a whole."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
        return [Miss(f"{name}[{key}]", *_around(old.get(key), new.get(key))) for key in keys]
    if isinstance(old, list) and isinstance(new, list):
        then = " ".join(str(one) for one in old if one not in new)
        now = " ".join(str(one) for one in new if one not in old)
        if then or now:
            return [Miss(name, then or ABSENT, now or ABSENT)]
    return [Miss(name, *_around(old, new))]


def _around(old: Any, new: Any) -> tuple[str, str]:
    """Both values from a little before the place where they part: the ends of long texts are what a message cuts."""
    if not isinstance(old, str) or not isinstance(new, str):
        return ABSENT if old is None else str(old), ABSENT if new is None else str(new)
    start = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    cut = max(0, start - 40) if max(len(old), len(new)) > SHOWN else 0
    return old[cut:] or "empty", new[cut:] or "empty"
