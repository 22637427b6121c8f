"""Section `quantize`: number formats, rounding methods, calibration."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from slipway.config.base import Section, Switch, born

FormatName = Literal["nvfp4", "nvfp4a16", "mxfp4", "fp8", "fp8-dynamic"]
_FUSING = ("vllm", "trtllm", "trtllm-engine")  # run q/k/v, and gate/up, as one FP8 matmul with one scale


class CalibrationConfig(Section):
    """Which training rows run through the network for input scales, KV scales and GPTQ."""

    samples: int = Field(128, ge=1, description="Sequences run through the network.")
    length: int = Field(512, ge=16, description="Tokens of a sequence; training rows are joined to fill them.")
    seed: int = Field(17, description="Seed of the choice of rows.")
    micro_batch: int = Field(4, ge=1, description="Sequences run together.")


class QuantizeConfig(Section):
    """Checkpoint -> quantized checkpoint, in one pass."""

    format: FormatName = Field(
        "nvfp4a16",
        description="`nvfp4`: weights and inputs in NVFP4 (W4A4); `nvfp4a16`: weights only; `mxfp4`: weights only, "
        "block 32; "
        "`fp8`: weights and inputs in E4M3, a scale per tensor; `fp8-dynamic`: a weight scale per channel, inputs "
        "scaled per token.",
    )
    method: Literal["max", "mse", "gptq"] = Field(
        "max",
        description="`max`: scales from largest magnitudes, ModelOpt's rule bit for bit; `mse`: block scales "
        "searched for the least "
        "squared error (FP4); `gptq`: also rounded so that outputs on calibration data change least.",
    )
    layout: Literal["modelopt", "compressed-tensors", "gpt-oss"] = Field(
        "modelopt",
        description="Names and config documents that the runtime reads. `gpt-oss`: experts in mxfp4, all else in bf16, "
        "as that model is published; of such a base, experts that no adapter changes pass through byte for byte.",
    )
    kv_cache: Literal["none", "fp8"] = Field("none", description="`fp8`: scales for an FP8 KV cache, from calibration.")
    fused_scales: Annotated[Literal["own", "shared", "auto"], born("own")] = Field(
        "auto",
        description="Weight scales in `fp8` of projections that a runtime runs as one matmul (q/k/v, gate/up). `own`: "
        "each its own, as ModelOpt; `shared`: one, of the largest magnitude among them, so that the runtime has "
        "nothing to requantize; `auto`: `shared` where `engine.kind` is one that does (vllm, trtllm), else `own`. "
        "NVFP4's global scales are always shared, other formats have none.",
    )
    exclude: list[str] = Field(
        ["lm_head"],
        description="Modules kept in bf16: shell patterns on module names. Embeddings, routers and norms are "
        "always kept.",
    )
    rules: dict[str, Literal[FormatName, "bf16"]] = Field(
        default_factory=dict,
        description="Mixed precision: shell pattern on module names -> format or `bf16`; the first match wins.",
    )
    max_bits: float | None = Field(
        None,
        gt=4,
        le=16,
        description="Mixed precision by measurement: raise what loses most from `format` to FP8, then to bf16, while "
        "the average "
        "stays at or below this many bits per quantized parameter; null: off.",
    )
    calibration: CalibrationConfig = Field(default_factory=CalibrationConfig, description="Calibration data.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where the arithmetic runs; `auto`: the GPU when there is one."
    )
    compile: Switch = Field(
        "auto",
        description="Compile the arithmetic; `auto`: on a CPU above 1 GB of weights, when a compiler is there. The "
        "bytes are the same.",
    )
    memory_budget_gb: float = Field(4.0, gt=0, description="Weights in flight on the device that computes, GB.")
    workers: int | None = Field(
        None,
        ge=1,
        description="Threads that read, compute and write; null: the cores, at most 16, on a GPU at most 8, above 40 "
        "GB of weights at most 4.",
    )
    max_shard_gb: float = Field(4.0, gt=0, description="Largest shard written, GB.")

    def for_engine(self, kind: str) -> Self:
        """The section with `fused_scales: auto` decided for an engine, which must be named (not `auto`)."""
        if self.fused_scales != "auto":
            return self
        shared = kind in _FUSING and self._may_write_fp8()
        return self.model_copy(update={"fused_scales": "shared" if shared else "own"})

    def _may_write_fp8(self) -> bool:
        """Whether a weight may become `fp8`: by name, or raised to it by `max_bits`."""
        return self.max_bits is not None or "fp8" in (self.format, *self.rules.values())

    @model_validator(mode="after")
    def _shared_scales_of_fp8(self) -> Self:
        if self.fused_scales == "shared" and not self._may_write_fp8():
            raise ValueError(
                f"quantize.fused_scales=shared: nothing of format {self.format} has a scale that a tensor may keep for "
                "itself, only fp8 has; leave it out"
            )
        return self
