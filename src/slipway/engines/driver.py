"""One driver an engine: `plan` decides everything about a server before it starts, `build` makes the bundle's files.

Serving and probing are the same for all engines and not a driver's: a server is a job of the runners
(`engines/serving.py`), asked through an OpenAI-compatible endpoint. What differs is data in the plan, which is written
into the bundle as `serve.json`: the rendered command, the files that it reads, its environment, its caches.

In `argv`, `files` and `environment` these placeholders stand for what is known only at a start: `{bundle}` the bundle's
directory, `{model}` the checkpoint, `{cache}` this start's own writable copy of the caches, `{host}` and `{port}` where
the server listens, `{threads}` the CPU threads that the process may use. Everything else is literal, and in the
bundle's key. `{bundle}/NAME` of a config file stands for the file as rendered at the start.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

from pydantic import Field

from slipway.config.base import Section
from slipway.config.engine import EngineConfig
from slipway.config.image import ImageConfig
from slipway.config.target import TargetConfig
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Checkpoint, Quantized

EngineKind = Literal["llama.cpp", "vllm", "trtllm", "trtllm-engine"]
# Variable that a server reads its callers' key from; TensorRT-LLM's server knows none
KEY_VARIABLES: dict[str, str] = {"vllm": "VLLM_API_KEY", "llama.cpp": "LLAMA_API_KEY"}
# Options of a server's certificate and private key; llama-server has some, and is built here without OpenSSL
TLS_OPTIONS: dict[str, tuple[str, str]] = {"vllm": ("--ssl-certfile", "--ssl-keyfile")}


class CacheSpec(Section):
    """A cache that the engine writes while it starts: what it holds, and where under `{cache}`."""

    name: str = Field(description="What it holds: `autotuner`, `flashinfer`, `triton`, `torch_compile`, `cuda`, ...")
    path: str = Field(description="File or directory below the cache's root.")
    variable: str = Field(description="Environment variable that leads the engine there.")


class Limits(Section):
    """What a server accepts."""

    context: int = Field(ge=1, description="Tokens of one request, prompt and answer.")
    slots: int = Field(ge=1, description="Requests decoded together.")
    batched_tokens: int | None = Field(None, ge=1, description="Tokens of one scheduler step; null: the engine's.")
    kv_bytes: int | None = Field(None, ge=1, description="Bytes of the KV cache; null: the engine's own choice.")
    kv_dtype: str = Field("auto", description="Type of the KV cache, in the engine's own word.")
    graph_sizes: list[int] = Field(default_factory=list, description="Batch sizes with a CUDA graph.")
    tensor_parallel: int = Field(1, ge=1, description="GPUs that share every layer.")
    pipeline_parallel: int = Field(1, ge=1, description="Groups of GPUs that share the layers in turn.")


class ServePlan(Section):
    """Everything about a server that is decided before it starts; `serve.json` of a bundle."""

    kind: EngineKind = Field(description="Engine.")
    target: str = Field("local", description="Row of conf/targets/ that it is planned for.")
    image: str | None = Field(None, description="Container image by digest; null: installed on the machine.")
    contract: str | None = Field(None, description="List of options that the command was checked against.")
    argv: list[str] = Field(description="The whole command, with placeholders.")
    files: dict[str, str] = Field(default_factory=dict, description="Config files in the bundle: name -> text.")
    environment: dict[str, str] = Field(default_factory=dict, description="Environment, with placeholders.")
    caches: list[CacheSpec] = Field(default_factory=list, description="Caches that make the next start warm.")
    alias: str = Field("slipway", description="Model name that the endpoint answers to.")
    health: str = Field("/health", description="Path that answers 200 when the model is ready.")
    limits: Limits = Field(description="What it accepts.")
    weights: str = Field("bf16", description="Format of the weights in the checkpoint.")
    computes: str = Field("bf16", description="What the target's kernels compute in; W4A4 on sm_90 runs weight-only.")
    memory: dict[str, float] = Field(default_factory=dict, description="Planned bytes: weights, kv_cache, ...")
    start_s: float = Field(120, gt=0, description="Seconds a cold start may take until it is healthy.")
    stop_s: float = Field(10, ge=0, description="Seconds between SIGTERM and SIGKILL.")
    build: str = Field("", description="Id of the program: version, CPU and compiler, or the image's digest.")
    cpu: str | None = Field(None, description="Digest of the CPU that the program is compiled for; null: any.")
    notes: list[str] = Field(default_factory=list, description="What a person should know of this plan.")


class Driver(Protocol):
    """One engine. `engines/<name>/driver.py` holds an object `DRIVER` of this shape."""

    @property
    def kind(self) -> EngineKind:
        """What `engine.kind` calls it."""

    def plan(
        self, model: Path, params: EngineConfig, target: TargetConfig, image: ImageConfig | None = None
    ) -> ServePlan:
        """How `model` (config.json and safetensors) is served on `target`.

        Raises ConfigError for a format that the target's GPU does not run, a flag or key that the contract does not
        know, and an image that is not pinned; ResourceError when it does not fit. Starts nothing.
        """

    def draft(
        self, model: Path, params: EngineConfig, target: TargetConfig, image: ImageConfig | None = None
    ) -> ServePlan:
        """The same plan where the image may be named by its tag: to look at, not to serve."""

    def build(
        self,
        checkpoint: Checkpoint | Quantized,
        plan: ServePlan,
        params: EngineConfig,
        space: Workspace,
        target: TargetConfig,
    ) -> ServePlan:
        """Write what the server needs beside `serve.json` into `space.out`, on `target` where it fits that machine
        only; returns the plan as built. Raises EngineError for an engine file that is missing, short, or older than the
        build.

        A virtual checkpoint is written out as `space.out/model`, which is then what `{model}` stands for."""
