"""Batches of tokens through a transformers decoder, one decoder layer at a time.

    h_0 = embed(tokens)        h_{i+1} = layer_i(h_i, *call_i)        logits = head(h_L)

call_i (masks, rotary tables, positions) depends on the tokens' positions, not on h: it is recorded once, by running the
decoder with layers that hand on what they are given. Whatever the decoder does around its layers is its own code.

Memory: N * T * H * 2 bytes for the hidden states of N rows of T tokens in bf16 (times the number of streams that have
moved apart), and the weights of one layer on the device; while stacked experts are joined, up to two times those more.
The embedding and the head are in memory only while `embed` and `head` are. Calls share their tensors: a mask is kept
once.

    70B (H = 8192), 256 rows of 2048 tokens: 8.6 GB of hidden states, 1.7 GB for a layer.

Not for: encoders, layers that keep state between calls, decoders that compute on h between layers. Those are refused.
Results are the bits of the ordinary model with the same micro-batches; other micro-batches may round a matmul
otherwise.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slipway.calibration.layer_calls import UNFIT, Call, LayerSpec, Shared, find_stack, forwards, record
from slipway.calibration.module_weights import MODEL_ERRORS, ModuleWeights, Origin
from slipway.calibration.observers import LayerWatch, Observer, SeenEnoughError
from slipway.errors import CheckpointError
from slipway.weights.shards import TensorInfo, TensorSource, natural

Head = Callable[
    [torch.Tensor], torch.Tensor
]  # hidden states [..., T, H] after the last layer -> logits [..., T, vocabulary]


class HiddenStates:
    """The hidden states between two layers: one tensor [rows, T, H] for each micro-batch, and the calls of every layer.

    `clone` is cheap: a layer's outputs replace entries and never change a tensor, so two streams share what is equal.
    """

    def __init__(self, values: list[torch.Tensor], calls: Sequence[Sequence[Call]]) -> None:
        self.values = values
        self.calls = calls  # [micro-batch][layer]

    def clone(self) -> HiddenStates:
        """The same states in a list of their own: a walk over the copy leaves these as they are."""
        return HiddenStates(list(self.values), self.calls)


class LayerWalk:
    """A decoder's layers, to be loaded and run one at a time.

        walk = LayerWalk(model_dir, source, device="cuda")
        states = walk.embed(tokens)
        for layer in walk.layers:
            with walk.load(layer, {name: source.read(name) for name in layer.names}) as module:
                walk.run(layer, module, states, observer)

    `unused` are checkpoint tensors that belong to no part that is run (a vision tower, layers for multi-token
    prediction).
    """

    def __init__(
        self,
        model_dir: Path,
        source: TensorSource,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        """Builds the model without weights; reads names and shapes only. Raises CheckpointError when it cannot be
        walked."""
        self.device, self._source = torch.device(device), source
        self._weights = ModuleWeights(model_dir, self.device, dtype)
        self._model = self._weights.model
        self._stack = find_stack(self._model)
        self._hands_tuples = False
        self._paths = [f"{self._stack.path}.{i}" for i in range(len(self._stack.layers))]
        self._needed = self._needs(self._stack.path.removesuffix(self._stack.path.rpartition(".")[2]))
        parts = self._sort(source.names())
        self.embed_names, self.head_names, self.unused = parts["embed"], parts["head"], parts["unused"]
        self._origins: list[dict[str, Origin]] = []
        self.layers = self._specs(parts)

    @property
    def text_config(self) -> Any:
        """transformers' config of the decoder: sizes, longest row, rotary parameters."""
        return self._model.config.get_text_config(decoder=True)

    def parameters_of(self, layer: LayerSpec, names: Iterable[str]) -> dict[str, str]:
        """Parameters of a layer, by their names in its module, that are made of some of these checkpoint tensors -> one
        such tensor."""
        wanted = set(names)
        made = {
            path: next((name for part in origin.slices for name in part if name in wanted), None)
            for path, origin in self._origins[layer.index].items()
        }
        return {path: name for path, name in made.items() if name}

    def embed(
        self, tokens: torch.Tensor, *, micro_batch: int = 8, keep: str | torch.device | None = None
    ) -> HiddenStates:
        """Tokens int64 [N, T], every one real (no padding) -> the states before the first layer.

        `micro_batch` rows run at a time; `keep` is the device that states rest on between layers, by default that of
        the walk.
        """
        return self.embed_batches(torch.split(tokens, micro_batch), keep=keep)

    def embed_batches(
        self,
        batches: Iterable[torch.Tensor],
        weights: Mapping[str, torch.Tensor] | None = None,
        *,
        keep: str | torch.device | None = None,
        shared: Shared | None = None,
    ) -> HiddenStates:
        """The same for micro-batches of tokens int64 [rows, T] that need not be of one length, with `embed_names` of
        `weights` or the source. Walks of several models give one `shared`, so that equal masks are held once."""
        values, calls, shared = [], [], shared or Shared()
        given = self._read(self.embed_names) if weights is None else weights
        with self._weights.loaded(given, self._needed["embed"]), torch.no_grad(), self._named("embedding"):
            for rows in batches:
                hidden, recorded, self._hands_tuples = record(self._stack, rows.to(self.device))
                values.append(hidden.to(keep or self.device))
                calls.append([shared.call(call) for call in recorded])
        return HiddenStates(values, calls)

    @contextmanager
    def load(self, layer: LayerSpec, weights: Mapping[str, torch.Tensor] | None = None) -> Iterator[nn.Module]:
        """The layer with these weights (by checkpoint name; None reads the source) for the length of the context.

        Raises CheckpointError unless they are all the layer needs. They may be changed only when the context has ended.
        """
        with self._weights.loaded(self._read(layer.names) if weights is None else weights, self._needed[layer.index]):
            yield self._stack.layers[layer.index]

    def run(
        self,
        layer: LayerSpec,
        module: nn.Module,
        states: HiddenStates,
        observer: Observer | None = None,
        *,
        advance: bool = True,
    ) -> None:
        """Every micro-batch through the module; `advance` replaces the states by the outputs."""
        for i, output in enumerate(self.outputs(layer, module, states, observer)):
            if advance:
                states.values[i] = output.to(states.values[i].device)

    def outputs(
        self, layer: LayerSpec, module: nn.Module, states: HiddenStates, observer: Observer | None = None
    ) -> Iterator[torch.Tensor]:
        """The layer's output [rows, T, H] for each micro-batch, on the device."""
        watch = LayerWatch(layer, module, self._origins[layer.index], observer) if observer else nullcontext()
        for i in range(len(states.values)):
            with torch.no_grad(), watch, self._named(layer.module):
                output = _call(layer, module, states.values[i].to(self.device), states.calls[i][layer.index])
            yield output

    def watched(self, layer: LayerSpec, module: nn.Module, states: HiddenStates, observer: Observer) -> Iterator[None]:
        """Each micro-batch run as far as the observer wants: it raises SeenEnoughError where it needs no more."""
        for value, calls in zip(states.values, states.calls, strict=True):
            with suppress(SeenEnoughError):
                self.run(layer, module, HiddenStates([value], [calls]), observer, advance=False)
            yield

    @contextmanager
    def head(self, weights: Mapping[str, torch.Tensor] | None = None) -> Iterator[Head]:
        """What comes after the last layer (final norm, output projection, soft cap), with `head_names` of `weights` or
        the source."""
        with self._weights.loaded(self._read(self.head_names) if weights is None else weights, self._needed["head"]):
            yield self._logits

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """The model's own forward with layers that hand on, the last of which returns `hidden`."""
        hidden = hidden.to(self.device)
        result = (hidden,) if self._hands_tuples else hidden
        layers = self._stack.layers
        with torch.no_grad(), self._named("head"), forwards(layers, [lambda *_, **__: result] * len(layers)):
            logits: torch.Tensor = self._model(inputs_embeds=hidden, use_cache=False).logits
        return logits

    @contextmanager
    def _named(self, part: str) -> Iterator[None]:
        """What a part's own code raises, as an error that names the decoder: one that needs more than tokens. A device
        out of memory stays what it is."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except MODEL_ERRORS as err:
            raise CheckpointError(
                f"{part} of decoder {type(self._stack.decoder).__name__}",
                f"{type(err).__name__}: {err}".partition("\n")[0][:200],
                "a decoder that runs on tokens alone",
                UNFIT,
            ) from err

    def _needs(self, decoder: str) -> dict[object, set[str]]:
        """Parameters by the part that needs them: a layer's number, "embed" or "head" (a tied embedding is in both)."""
        embedding = self._weights.parameters(self._model.get_input_embeddings())
        output = self._weights.parameters(self._model.get_output_embeddings())
        needs: dict[object, set[str]] = {
            i: {p for p in self._weights.paths() if p.startswith(f"{at}.")} for i, at in enumerate(self._paths)
        }
        around = {p for p in self._weights.paths() if p.startswith(decoder)}.difference(*needs.values())
        return needs | {"embed": around | embedding, "head": (around - embedding) | output}

    def _sort(self, names: Sequence[str]) -> dict[object, tuple[str, ...]]:
        """Checkpoint tensors by the part that needs them, and "unused"."""
        parts: dict[object, list[str]] = {part: [] for part in (*self._needed, "unused")}
        owners = defaultdict(list)
        for part, paths in self._needed.items():
            for path in paths:
                owners[path].append(part)
        for name in sorted(names, key=natural):
            for part in owners.get(self._weights.target(name) or "", ["unused"]):
                parts[part].append(name)
        return {part: tuple(names) for part, names in parts.items()}

    def _specs(self, parts: Mapping[object, tuple[str, ...]]) -> list[LayerSpec]:
        """Layers of one structure are traced once: their tensors have the same names but for the number, and the same
        shapes."""
        traced: dict[object, tuple[int, dict[str, Origin]]] = {}
        specs = []
        for i, path in enumerate(self._paths):
            infos = {name: self._source.info(name) for name in parts[i]}
            key = tuple((tuple(natural(name)[2:]), info.shape) for name, info in infos.items())
            if key not in traced:
                traced[key] = i, self._weights.origins(infos)
            like, origins = traced[key]
            rename = dict(zip(parts[like], parts[i], strict=True))
            prefix = f"{self._paths[like]}."
            self._origins.append(
                {
                    name.removeprefix(prefix): Origin(
                        tuple(tuple(rename[n] for n in names) for names in origin.slices), origin.stacked
                    )
                    for name, origin in origins.items()
                }
            )
            specs.append(LayerSpec(i, path, parts[i], self._linears(i, infos)))
        return specs

    def _linears(self, index: int, infos: Mapping[str, TensorInfo]) -> tuple[str, ...]:
        """Tensors of two dimensions and more in parameters that are neither biases, convolutions nor embeddings."""
        matmuls = set()
        for path, origin in self._origins[index].items():
            owner, _, name = path.rpartition(".")
            module = self._stack.layers[index].get_submodule(owner)
            if not name.endswith("bias") and not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Embedding):
                matmuls |= {n for names in origin.slices for n in names if len(infos[n].shape) > 1}
        return tuple(name for name in infos if name in matmuls)

    def _read(self, names: Sequence[str]) -> dict[str, torch.Tensor]:
        return {name: self._source.read(name) for name in names}


def _call(layer: LayerSpec, module: nn.Module, hidden: torch.Tensor, call: Call) -> torch.Tensor:
    version = None if hidden.is_inference() else hidden._version  # made in inference mode: nothing counts its changes
    result = module(hidden, *call.args, **call.kwargs)
    if version is not None and hidden._version != version:
        raise CheckpointError(
            f"decoder layer {layer.module}", "changes its input in place", "a layer that leaves its input alone", UNFIT
        )
    output: torch.Tensor = result[0] if isinstance(result, tuple) else result
    return output
