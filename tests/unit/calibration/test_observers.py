"""Every way to multiply with a parameter is reported with its input, names and slice; other products are not."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from slipway.calibration.layer_calls import LayerSpec
from slipway.calibration.module_weights import Origin
from slipway.calibration.observers import LayerWatch, MatmulWatch, attention_watch

X = torch.arange(8.0).reshape(2, 4)
ONE = Origin((("w",),), stacked=False)


def module_of(*shape):
    module = nn.Module()
    module.w = nn.Parameter(torch.randn(*shape, generator=torch.Generator().manual_seed(0)), requires_grad=False)
    return module


def reported(module, origins, work):
    calls = []
    with MatmulWatch(module, origins, lambda *call: calls.append(call)):
        result = work()
    return result, calls


WAYS = {
    "linear": lambda w: functional.linear(X, w),
    "linear by keyword": lambda w: functional.linear(weight=w, input=X),
    "linear with a bias": lambda w: functional.linear(X, w, torch.ones(3)) - 1,
    "operator": lambda w: X @ w.T,
    "matmul": lambda w: torch.matmul(X, other=w.mT),
    "mm": lambda w: torch.mm(X, w.t()),
    "method": lambda w: X.mm(w.t()),
    "addmm": lambda w: torch.addmm(torch.zeros(3), X, w.T),
    "weight first": lambda w: (w @ X.T).T,
    "batch": lambda w: torch.bmm(X[None], w.T[None])[0],
    "more dimensions": lambda w: functional.linear(X.reshape(1, 2, 1, 4), w).reshape(2, 3),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_a_product_reports_its_input_once_and_stays_as_it_is(way):
    module = module_of(3, 4)
    result, calls = reported(module, {"w": ONE}, lambda: way(module.w))
    assert torch.equal(result, way(module.w)) and torch.allclose(result, X @ module.w.T)
    ((names, x, expert),) = calls
    assert (names, expert) == (("w",), None) and torch.equal(x, X)


def test_rows_of_a_parameter_are_that_parameter():
    """A fused projection that is multiplied in parts."""
    module = module_of(6, 4)
    _, calls = reported(module, {"w": ONE}, lambda: [functional.linear(X, part) for part in module.w.split(2)])
    assert [(names, expert) for names, _, expert in calls] == [(("w",), None)] * 3


SLICES = (("gate.0", "up.0"), ("gate.1", "up.1"), ("gate.2", "up.2"))
TOKENS = torch.arange(24.0).reshape(3, 2, 4)


@pytest.mark.parametrize("stacked", [False, True])
def test_one_slice_of_a_stack_is_reported_by_its_names(stacked):
    module = module_of(3, 5, 4)
    origins = {"w": Origin(SLICES, stacked)}
    _, calls = reported(module, origins, lambda: [functional.linear(X, module.w[2]), X @ module.w[0].T])
    assert [(names, expert) for names, _, expert in calls] == [
        (SLICES[2], 2 if stacked else None),
        (SLICES[0], 0 if stacked else None),
    ]
    assert all(torch.equal(x, X) for _, x, _ in calls)


@pytest.mark.parametrize(
    "work",
    [
        lambda w: torch.bmm(TOKENS, w.mT),
        lambda w: torch.matmul(TOKENS, w.mT),
        lambda w: torch.baddbmm(torch.zeros(1), TOKENS, w.mT),
    ],
)
def test_a_product_with_a_whole_stack_reports_every_slice_with_its_own_tokens(work):
    module = module_of(3, 5, 4)
    _, calls = reported(module, {"w": Origin(SLICES, stacked=True)}, lambda: work(module.w))
    assert [(names, expert) for names, _, expert in calls] == [(SLICES[i], i) for i in range(3)]
    assert all(torch.equal(x, TOKENS[i]) for i, (_, x, _) in enumerate(calls))


def test_one_input_for_the_whole_stack_is_that_of_every_slice():
    module = module_of(3, 5, 4)
    _, calls = reported(module, {"w": Origin(SLICES, stacked=True)}, lambda: X @ module.w.mT)
    assert [expert for _, _, expert in calls] == [0, 1, 2] and all(torch.equal(x, X) for _, x, _ in calls)


def test_products_of_other_tensors_are_not_reported():
    layer, calls = nn.Linear(4, 4, bias=False), []
    with MatmulWatch(layer, {}, lambda *args: calls.append(args)):
        layer(torch.ones(2, 4))
        torch.ones(2, 4) @ torch.ones(4, 2)
    assert calls == []


def test_vectors_casts_and_products_outside_the_context_are_not_reported():
    module, calls = module_of(3, 4), []
    module.v = nn.Parameter(torch.ones(4))
    origins = {"w": ONE, "v": ONE}
    watch = MatmulWatch(module, origins, lambda *call: calls.append(call))
    with watch:
        torch.matmul(X, module.v)
        functional.linear(X.double(), module.w.double())  # another storage: a layer that casts its weight first
    functional.linear(X, module.w)
    assert calls == []


class Inputs:
    """Names and shapes of what is observed."""

    def __init__(self):
        self.names, self.attended = [], []

    def linear(self, names, x, expert):
        self.names.append((*names, tuple(x.shape), expert))

    def attention(self, layer, key, value):
        self.attended.append((layer.index, tuple(key.shape), tuple(value.shape)))


@pytest.fixture(scope="module")
def llama():
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
    )
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("kind", ["eager", "sdpa"])
def test_a_layer_is_watched_as_often_as_it_is_entered(llama, kind):
    llama.set_attn_implementation(kind)
    layer, observer = llama.model.layers[0], Inputs()
    origins = {name: Origin(((name,),), stacked=False) for name, _ in layer.named_parameters()}
    watch = LayerWatch(LayerSpec(7, "model.layers.0", (), ()), layer, origins, observer)
    ids = torch.arange(10).reshape(2, 5)
    with torch.no_grad():
        for _ in range(2):
            with watch:
                llama(ids, use_cache=False)
        llama(ids, use_cache=False)
    inputs = {"self_attn.q_proj": 16, "self_attn.k_proj": 16, "self_attn.v_proj": 16, "self_attn.o_proj": 16}
    inputs |= {"mlp.gate_proj": 16, "mlp.up_proj": 16, "mlp.down_proj": 24}
    assert observer.names == 2 * [(f"{name}.weight", (10, width), None) for name, width in inputs.items()]
    assert observer.attended == 2 * [(7, (2, 2, 5, 4), (2, 2, 5, 4))]  # before heads are repeated


def test_attention_is_given_back_after_an_error_and_the_values_are_the_models(llama):
    pairs = []
    with torch.no_grad(), attention_watch(lambda key, value: pairs.append((key, value))):
        cache = llama(torch.arange(5).reshape(1, -1), use_cache=True).past_key_values
    ((key, value),) = pairs
    assert torch.equal(key, cache.layers[0].keys) and torch.equal(value, cache.layers[0].values)
    with pytest.raises(KeyError), attention_watch(lambda *_: None):
        raise KeyError
    assert "get_interface" not in vars(ALL_ATTENTION_FUNCTIONS)
