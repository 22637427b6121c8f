"""GPU memory of a fine-tuning step, before the model is there.

Per GPU, bytes, with h hidden, i intermediate, L layers, V vocabulary, t = micro_batch * pack_length / context tokens:

weights      linear: 2 (bf16), or NF4: 1/2 + 1/64 + 4/(64*256) = 0.51587 a parameter (4 bits, an 8-bit scale per 64, an
             fp32 scale per 256 of those: QLoRA, arXiv:2305.14314); embedding and head 2. FSDP2 keeps 1/shards of all,
             and one layer and the embeddings whole while they compute
trained      8 a parameter that is trained: bf16 weight, gradient and two Adam moments (16 where they are fp32)
kept         full:       2 h t L                     the input of each layer; 8 h t L where upstream recomputes norms,
                                                     attention and MLP one by one: in its own model code (everything but
                                                     NF4) and under DDP
             selective:  + 2 h t L                   + attention's result; bf16 layers keep every other product too: +
                                                     (3h + 2k + 2i) t L
             none:       (24 h + 8 i) t L            norms, q, k, v and their inputs; gate, up, silu, product
working      max(logits 12 V t, one layer's 24 h + 8 i): bf16 logits, fp32 copy, fp32 softmax, bf16 gradient. `chunked`
             holds 512 tokens of logits, `fused_linear` none
masks        2 t^2 block mask (sdpa); eager: 8 bytes an attention weight and head
loading      on unified memory bf16 weights exist twice while they load; NF4 is made tensor by tensor, one shard beside
             it

24 h + 8 i is counted over a Llama layer with a fused norm and agrees with NeMo measured to 4% (peft, whose adapters are
fp32: 9%). Left out: allocator fragmentation and the CUDA context (`target.reserve_gb` is for them), activations that
tensor parallelism does not cut, load imbalance between experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slipway.config.model import ModelConfig
from slipway.config.target import TargetConfig
from slipway.config.train import TrainConfig
from slipway.errors import CheckpointError
from slipway.planning.fit import Fit, cannot_tell, fit, gpu_room
from slipway.planning.parallelism import Parallelism, parallelism
from slipway.planning.serving_memory import model_config, parameters

NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
BF16_BYTES = 2
TRAINED_BYTES = 8
LOGIT_BYTES = 12
CHUNK_TOKENS = 512
SHARD_BYTES = 5e9
_GATED = (
    "llama mistral mixtral qwen2 qwen2_moe qwen3 qwen3_moe gemma gemma2 gemma3_text phi3 olmo olmo2 olmo3 olmoe "
    "smollm3 granite granitemoe glm glm4 exaone4 helium seed_oss stablelm cohere cohere2 ernie4_5 hunyuan_v1_dense"
)
GATED = frozenset(_GATED.split())
COUNT_OFF = 0.03  # norms, biases and a shared expert's gate are not counted
PROBE_IT = "probe it: `slipway tune`; or --assume llama (model.assume) to plan it as one"


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on one GPU."""

    weights: float
    trained: float
    kept: float
    working: float
    loading: float

    @property
    def step(self) -> float:
        """Bytes at the peak of an optimizer step."""
        return self.weights + self.trained + self.kept + self.working

    @property
    def peak(self) -> float:
        """What must fit: the step, or the load of the model before it."""
        return max(self.step, self.loading)


def memory_plan(
    model: ModelConfig, params: TrainConfig, target: TargetConfig, *, trained_bytes: float = TRAINED_BYTES
) -> MemoryPlan:
    """Memory of one GPU of the target. `trained_bytes`: bytes per trained parameter, 16 where adapters are fp32."""
    gpus = parallelism(params, target)
    weights = _weights(model, params, gpus)
    loading = 0.0
    if target.unified_memory:
        loading = weights + (SHARD_BYTES if params.method == "qlora" else weights)
    return MemoryPlan(
        weights,
        _trained(model, params, gpus) * trained_bytes,
        _kept(model, params, gpus),
        _working(model, params, gpus),
        loading,
    )


def training_fit(model: ModelConfig, params: TrainConfig, target: TargetConfig) -> Fit | None:
    """Whether training fits one GPU of the target: the answer of plan, preflight, recipe and their errors. None for a
    target without GPU memory; `cannot tell` for an architecture that the formulas do not describe."""
    room = gpu_room(target)
    if room is None:
        return None
    if why := unknown_architecture(model):
        return cannot_tell(why, PROBE_IT)
    return fit(memory_plan(model, params, target).peak, room)


def unknown_architecture(model: ModelConfig) -> str:
    """Why the formulas do not hold for the model in `model.directory`; empty where they do, where it is not there yet
    and the row of conf/models is all there is, and where `model.assume` takes it upon itself.

    They are for decoders of the Llama kind (`GATED`); whatever its name, one whose files hold another number of
    parameters than the row says has other matrices.
    """
    directory = Path(model.directory or "").expanduser()
    if model.assume or not model.directory or not (directory / "config.json").is_file():
        return ""
    kind = model_config(directory).get("model_type")
    if kind not in GATED:
        return f"model_type {kind!r} is none of {', '.join(sorted(GATED))}"
    try:
        held = parameters(directory)
    except CheckpointError:  # a shard that is not there: `fetch` says so
        return ""
    counted = layer_parameters(model) * model.layers + embedding_parameters(model)
    if abs(counted / max(1, held) - 1) > COUNT_OFF:
        return f"{held:,} parameters in {directory}, {counted:,} by the formula"
    return ""


def layer_parameters(model: ModelConfig) -> int:
    """Weights of one decoder layer, every expert included; norms left out."""
    queries, values = _widths(model)
    attention = model.hidden * (queries + 2 * values) + queries * model.hidden
    return attention + model.hidden * model.experts + 3 * model.hidden * model.intermediate * max(1, model.experts)


def embedding_parameters(model: ModelConfig) -> int:
    """Weights of the embedding, and of the head where it is another matrix."""
    return model.vocabulary * model.hidden * (1 if model.tied_embeddings else 2)


def adapter_parameters(model: ModelConfig, params: TrainConfig) -> int:
    """Weights of the LoRA pairs: rank * (in + out) for each adapted matrix. Experts' matrices are not adapted."""
    h, (queries, values) = model.hidden, _widths(model)
    sizes = dict(
        zip(TrainConfig.ATTENTION_PROJECTIONS, (h + queries, h + values, h + values, queries + h), strict=True)
    )
    if not model.experts:
        sizes |= dict.fromkeys(TrainConfig.MLP_PROJECTIONS, h + model.intermediate)
    return model.layers * params.rank * sum(sizes.get(name, 0) for name in params.targets)


def _widths(model: ModelConfig) -> tuple[int, int]:
    """Width of all queries, and of all keys."""
    head = model.head_dim or model.hidden // model.heads
    return model.heads * head, model.kv_heads * head


def _weights(model: ModelConfig, params: TrainConfig, gpus: Parallelism) -> float:
    linear = layer_parameters(model) * (NF4_BYTES if params.method == "qlora" else BF16_BYTES)
    embedding = embedding_parameters(model) * BF16_BYTES
    whole = (linear * model.layers + embedding) / (gpus.tensor * gpus.pipeline)
    if params.strategy == "ddp" or gpus.shards == 1:
        return whole
    gathered = linear / max(1, model.experts and gpus.expert) + embedding
    return whole / gpus.shards + gathered / gpus.tensor


def _trained(model: ModelConfig, params: TrainConfig, gpus: Parallelism) -> float:
    if params.method == "sft":  # the weights themselves are in `weights` already: gradients and moments beside them
        every = layer_parameters(model) * model.layers + embedding_parameters(model)
        trained = every * (TRAINED_BYTES - BF16_BYTES) / TRAINED_BYTES
    else:
        trained = adapter_parameters(model, params)
    return trained / (gpus.tensor * gpus.pipeline * (gpus.shards if params.strategy == "fsdp2" else 1))


def _layer_activations(model: ModelConfig, gpus: Parallelism, *, sequence: bool) -> float:
    """Bytes a token and layer, everything kept. A token passes through `experts_per_token` experts."""
    inner = 8 * model.intermediate * max(1, model.experts_per_token) / gpus.tensor
    return 24 * model.hidden / (gpus.tensor if sequence else 1) + inner


def _kept(model: ModelConfig, params: TrainConfig, gpus: Parallelism) -> float:
    h, (queries, values) = model.hidden, _widths(model)
    whole_layers = params.method == "qlora" and not (params.strategy == "ddp" and gpus.world > 1)
    per_token = 2.0 * h if whole_layers or params.activation_checkpointing == "selective" else 8.0 * h
    if params.activation_checkpointing == "selective":
        dense = (
            0
            if params.method == "qlora"
            else 2 * h + queries + 2 * values + 2 * model.intermediate * max(1, model.experts_per_token)
        )
        per_token += 2 * queries + dense
    elif params.activation_checkpointing == "none":
        per_token = _layer_activations(model, gpus, sequence=params.sequence_parallel)
    scores = _scores(model, params, gpus) * (model.layers if params.activation_checkpointing == "none" else 1)
    return per_token * _tokens(params, gpus) * model.layers / gpus.pipeline + scores


def _scores(model: ModelConfig, params: TrainConfig, gpus: Parallelism) -> float:
    """Attention weights that `eager` writes out for one layer."""
    if params.attention != "eager":
        return 0.0
    return 8.0 * model.heads * params.micro_batch * (params.pack_length / gpus.context) ** 2 / gpus.tensor


def _working(model: ModelConfig, params: TrainConfig, gpus: Parallelism) -> float:
    tokens = _tokens(params, gpus)
    logits = {"masked": tokens, "chunked": min(tokens, CHUNK_TOKENS), "fused_linear": 0.0}[params.loss]
    layer = _layer_activations(model, gpus, sequence=params.sequence_parallel) * tokens
    masks = (
        0.0
        if params.attention == "flash_attention_2"
        else 2.0 * params.micro_batch * (params.pack_length / gpus.context) ** 2
    )
    return max(LOGIT_BYTES * model.vocabulary * logits, layer) + masks


def _tokens(params: TrainConfig, gpus: Parallelism) -> float:
    return params.micro_batch * params.pack_length / gpus.context
