"""The base model and how it is fine-tuned: the sections `model` and `train`, which both trainers read."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from slipway.config.base import Section, born

# What is safe differs where a GPU trains: these replace the field defaults that the small CPU run wants.
NEMO_DEFAULTS: dict[str, Any] = {
    "pack_length": 2048,
    "lr": 1.0e-4,
    "weight_decay": 0.01,
    "activation_checkpointing": "full",
    "keep_checkpoints": 3,
}


_CPU_ONLY = ("upper_layers", "accumulate", "lanes", "threads")


_NEMO_ONLY = (
    "packing",
    "truncate",
    "global_batch",
    "attention",
    "loss",
    "strategy",
    "tensor_parallel",
    "context_parallel",
    "pipeline_parallel",
    "expert_parallel",
    "sequence_parallel",
    "validate_every",
    "timeout_minutes",
)


class TrainConfig(Section):
    """Fine-tuning recipe, for both trainers. A key that only one reads says so, and is refused for the other."""

    ATTENTION_PROJECTIONS: ClassVar = ("q_proj", "k_proj", "v_proj", "o_proj")
    MLP_PROJECTIONS: ClassVar = ("gate_proj", "up_proj", "down_proj")

    backend: Literal["cpu", "nemo"] = Field(
        "cpu",
        description="Who trains: `cpu` is the embedded trainer (peft, bitsandbytes); `nemo` is NeMo AutoModel on the "
        "target's GPUs.",
    )
    method: Literal["qlora", "lora", "sft"] = Field(
        "qlora",
        description="`qlora`: base in NF4 (bitsandbytes); `lora`: base in bf16 (fp32 on the CPU); `sft`: every weight.",
    )
    rank: int = Field(16, ge=1, description="LoRA rank.")
    alpha: float = Field(32, gt=0, description="LoRA alpha; the product is scaled by alpha/rank.")
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="LoRA dropout; above 0 NeMo cannot fuse the adapters of an MLP, which saves memory.",
    )
    targets: list[str] = Field(
        [*ATTENTION_PROJECTIONS, *MLP_PROJECTIONS], description="Linear modules adapted, by name."
    )
    upper_layers: int = Field(
        18,
        ge=1,
        description="CPU: adapt only this many layers, counted from the top; lower ones run without gradients.",
    )
    learn: Annotated[Literal["all", "last"], born("last")] = Field(
        "last", description="Answers of a conversation that are learnt: every one, or the last; both trainers."
    )
    epochs: float = Field(1.0, gt=0, description="Passes over the training split.")
    max_steps: int | None = Field(None, ge=1, description="Stop after this many optimizer steps; null: epochs decide.")
    pack_length: int = Field(
        512,
        ge=16,
        description="Tokens per packed sequence (CPU: what its rows begin with counted once); the longest sample NeMo "
        "sees. NeMo's default: 2048.",
    )
    packing: Literal["neat", "thd", "none"] = Field(
        "neat",
        description="NeMo: how samples share a sequence. `neat` keeps them apart in every setting, `thd` does not, "
        "`none` pads.",
    )
    truncate: bool = Field(False, description="NeMo: cut samples at pack_length; off: a longer sample is an error.")
    micro_batch: int = Field(1, ge=1, description="Packed sequences per forward pass of one GPU.")
    accumulate: int = Field(2, ge=1, description="CPU: forward passes per optimizer step.")
    lanes: Annotated[int, born(1)] = Field(
        2,
        ge=1,
        description="CPU: parts of a forward pass that are computed side by side, threads shared out; the result is "
        "the same on any number of cores.",
    )
    global_batch: int = Field(
        32,
        ge=1,
        description="NeMo: packed sequences per optimizer step over all GPUs; accumulation follows, so the target "
        "may change.",
    )
    lr: float = Field(1.0e-3, gt=0, description="Peak learning rate. NeMo's default: 1e-4.")
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of steps that warm up linearly.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW weight decay. NeMo's default: 0.01.")
    grad_clip: float = Field(1.0, gt=0, description="Gradient norm clip.")
    activation_checkpointing: Literal["none", "selective", "full"] = Field(
        "none",
        description="What the backward pass recomputes; `selective` (NeMo) keeps the expensive results. NeMo's "
        "default: full.",
    )
    attention: Literal["sdpa", "flash_attention_2", "eager"] = Field(
        "sdpa", description="NeMo: attention implementation."
    )
    loss: Literal["masked", "fused_linear", "chunked"] = Field(
        "masked",
        description="NeMo: cross entropy over whole logits, fused with the head (cut-cross-entropy), or 512 tokens "
        "at a time.",
    )
    strategy: Literal["fsdp2", "ddp"] = Field(
        "fsdp2", description="NeMo: weights sharded over the data-parallel GPUs, or whole on each."
    )
    tensor_parallel: int = Field(1, ge=1, description="NeMo: GPUs that share each matrix. Not with qlora.")
    context_parallel: int = Field(
        1, ge=1, description="NeMo: GPUs that share each sequence. Not with qlora, nor with packing."
    )
    pipeline_parallel: int = Field(1, ge=1, description="NeMo: stages the layers are cut into. Not with qlora.")
    expert_parallel: int = Field(1, ge=1, description="NeMo: GPUs that share the experts of each layer.")
    sequence_parallel: bool = Field(
        False, description="NeMo: norms and residuals are cut along the sequence too, with tensor_parallel."
    )
    validate_every: int | None = Field(
        None, ge=1, description="NeMo: steps between validations; null: with every checkpoint only."
    )
    checkpoint_every: int = Field(50, ge=1, description="Optimizer steps between checkpoints.")
    keep_checkpoints: int = Field(
        2, ge=1, description="Complete checkpoints kept; NeMo keeps the best besides. NeMo's default: 3."
    )
    timeout_minutes: int = Field(
        10, ge=1, description="NeMo: longest wait of one GPU for another, load of the model included, minutes."
    )
    threads: int | None = Field(None, ge=1, description="CPU: threads; null: all cores.")
    seed: int = Field(17, description="Seed of order, initialisation and dropout.")

    @model_validator(mode="before")
    @classmethod
    def _safe_on_a_gpu(cls, given: Any) -> Any:
        nemo = isinstance(given, dict) and given.get("backend") == "nemo"
        return {**NEMO_DEFAULTS, **given} if nemo else given

    @model_validator(mode="after")
    def _read_by_its_backend(self) -> Self:
        for key in _CPU_ONLY if self.backend == "nemo" else _NEMO_ONLY:
            value, default = getattr(self, key), type(self).model_fields[key].default
            if value != default:
                raise ValueError(
                    f"train.{key}={value} would not be read: train.backend is {self.backend}; leave it at {default}"
                )
        if self.backend == "cpu" and self.activation_checkpointing == "selective":
            raise ValueError("train.activation_checkpointing=selective needs train.backend=nemo; use none or full")
        return self
