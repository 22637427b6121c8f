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
             none:       (20 h + 8 i) t L            NF4: norms and their inputs, q, attention's result, k and v once a
                                                     query head; gate, up, silu, product. Other methods: 24 h + 8 i
             selective and none keep 4 bytes of softmax statistics a head too, and 2 of each pair's inner product a rank
working      max(logits 12 V t + 2 h t, one layer's (24 h + 8 i) t): bf16 logits, fp32 copy, fp32 softmax, bf16
             gradient, the head's input. `chunked` holds 512 tokens of logits, `fused_linear` none
masks        sdpa: t^2 of the block mask, and 2 t^2 for each layer that keeps it (none) or works on it, per micro-batch;
             eager: 8 bytes an attention weight and head
workspaces   2 * 32 MiB of cuBLAS, one of the forward's thread and one of the backward's
loading      on unified memory bf16 weights exist twice while they load; NF4 is made tensor by tensor, one shard beside
             it

Counted over a Llama layer with a fused norm, and held to NeMo measured on an H200
(benchmarks/planner_grid; docs/plan.md has the errors); peft, whose adapters are fp32, to 9%. Left out: the CUDA context
(`target.reserve_gb` is for it), activations that tensor parallelism does not cut, load imbalance between experts.
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
WORKSPACE_BYTES = 2 * 32 * 2**20
# Of 95 trainings within limits of 0.9 to 1.1 of their peak on an H200 none died that had this much, with segments that
# grow (`runners.base.ALLOCATOR`); without them one needs up to 1.25 of its peak.
NEEDED_RATIO = {"full": 1.03, "selective": 1.06, "none": 1.03}
NEEDED_BYTES = 0.1e9
# Bytes that the allocator keeps of freed logits, a token and word of the vocabulary, and of a freed layer, a byte of it
CACHED_LOGITS, CACHED_LAYER = 1.7, 0.5
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
    cached: float = 0.0
    needed_ratio: float = 1.0

    @property
    def step(self) -> float:
        """Bytes at the peak of an optimizer step."""
        return self.weights + self.trained + self.kept + self.working

    @property
    def peak(self) -> float:
        """What must fit: the step, or the load of the model before it."""
        return max(self.step, self.loading)

    @property
    def needed(self) -> float:
        """What a limit must leave for it to run: the peak, and what the allocator cannot give back of its pages."""
        return self.peak * self.needed_ratio + NEEDED_BYTES

    @property
    def reserved(self) -> float:
        """What the allocator holds at the peak where nothing limits it; it gives `cached` back before it fails."""
        return self.peak + self.cached


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
        _working(model, params, gpus) + WORKSPACE_BYTES,
        loading,
        _cached(model, params, gpus),
        NEEDED_RATIO[params.activation_checkpointing],
    )


def training_fit(model: ModelConfig, params: TrainConfig, target: TargetConfig) -> Fit | None:
    """Whether training fits one GPU of the target: the answer of plan, preflight, recipe and their errors. None for a
    target without GPU memory; `cannot tell` for an architecture that the formulas do not describe."""
    room = gpu_room(target)
    if room is None:
        return None
    if why := unknown_architecture(model):
        return cannot_tell(why, PROBE_IT)
    return fit(memory_plan(model, params, target).needed, room)


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


def _layer_activations(model: ModelConfig, gpus: Parallelism, *, sequence: bool, lean: bool = False) -> float:
    """Bytes a token and layer, everything kept. A token passes through `experts_per_token` experts. `lean`: with
    products of NF4, which keep the bf16 input alone."""
    inner = 8 * model.intermediate * max(1, model.experts_per_token) / gpus.tensor
    return (20 if lean else 24) * model.hidden / (gpus.tensor if sequence else 1) + inner


def _kept(model: ModelConfig, params: TrainConfig, gpus: Parallelism) -> float:
    how, (queries, values) = params.activation_checkpointing, _widths(model)
    nf4 = params.method == "qlora"
    whole_layers = nf4 and not (params.strategy == "ddp" and gpus.world > 1)
    per_token = 2.0 * model.hidden if whole_layers or how == "selective" else 8.0 * model.hidden
    if how == "selective":
        dense = 2 * model.hidden + queries + 2 * values + 2 * model.intermediate * max(1, model.experts_per_token)
        per_token += 2 * queries + (0 if nf4 else dense)
    elif how == "none":
        per_token = _layer_activations(model, gpus, sequence=params.sequence_parallel, lean=nf4)
    if how != "full":
        pairs = 0 if params.method == "sft" else params.rank * len(params.targets)
        per_token += 4 * model.heads / gpus.tensor + 2 * pairs
    scores = _scores(model, params, gpus) * (model.layers if how == "none" else 1)
    masks = _mask_bytes(params, gpus) * 2 * model.layers if how == "none" else 0.0
    return (per_token * _tokens(params, gpus) * model.layers + masks) / gpus.pipeline + scores


def _scores(model: ModelConfig, params: TrainConfig, gpus: Parallelism) -> float:
    """Attention weights that `eager` writes out for one layer."""
    if params.attention != "eager":
        return 0.0
    return 8.0 * model.heads * params.micro_batch * (params.pack_length / gpus.context) ** 2 / gpus.tensor


def _mask_bytes(params: TrainConfig, gpus: Parallelism) -> float:
    """A byte for each pair of tokens of a pack: the block mask, which flash attention has not."""
    if params.attention == "flash_attention_2":
        return 0.0
    return 1.0 * params.micro_batch * (params.pack_length / gpus.context) ** 2


def _working(model: ModelConfig, params: TrainConfig, gpus: Parallelism) -> float:
    tokens, mask = _tokens(params, gpus), _mask_bytes(params, gpus)
    layer = _layer_activations(model, gpus, sequence=params.sequence_parallel) * tokens + 2 * mask
    return max(LOGIT_BYTES * model.vocabulary * _logit_tokens(params, gpus) + 2.0 * model.hidden * tokens, layer) + mask


def _cached(model: ModelConfig, params: TrainConfig, gpus: Parallelism) -> float:
    """Bytes of freed logits and of a freed layer that the allocator holds on to."""
    layer = _layer_activations(model, gpus, sequence=params.sequence_parallel) * _tokens(params, gpus)
    return CACHED_LOGITS * model.vocabulary * _logit_tokens(params, gpus) + CACHED_LAYER * layer


def _logit_tokens(params: TrainConfig, gpus: Parallelism) -> float:
    """Tokens whose logits exist at once."""
    tokens = _tokens(params, gpus)
    return {"masked": tokens, "chunked": min(tokens, CHUNK_TOKENS), "fused_linear": 0.0}[params.loss]


def _tokens(params: TrainConfig, gpus: Parallelism) -> float:
    return params.micro_batch * params.pack_length / gpus.context
