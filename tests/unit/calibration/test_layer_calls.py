"""A decoder's stack and the calls of its layers, on decoders written here: what is recorded and what is refused."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from slipway.calibration.layer_calls import Call, Shared, find_stack, forwards, record
from slipway.errors import CheckpointError

ROWS = torch.tensor([[0, 2, 1]])
STATES = torch.tensor([[[1.0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0]]])  # one-hot


class Decoder(nn.Module):
    """Two layers, with `between` done to the hidden states."""

    def __init__(self, between, layers=2):
        super().__init__()
        self.stack, self.between = nn.ModuleList(nn.Linear(4, 4) for _ in range(layers)), between
        self.config = SimpleNamespace(num_hidden_layers=2)
        self.config.get_text_config = lambda decoder: self.config

    def get_decoder(self):
        return self

    def forward(self, input_ids, use_cache):
        hidden = nn.functional.one_hot(input_ids, 4).float()
        for layer in self.stack:
            hidden = self.between(layer(hidden))
        return hidden


def test_a_decoder_that_is_no_stack_of_layers_is_refused():
    rows = torch.zeros((1, 3), dtype=torch.long)
    assert len(record(find_stack(Decoder(lambda hidden: hidden)), rows)[1]) == 2
    assert record(find_stack(Decoder(lambda output: output[0] if isinstance(output, tuple) else output * 1)), rows)[2]
    with pytest.raises(CheckpointError, match="hand each layer's output on"):
        record(find_stack(Decoder(lambda hidden: hidden[0] + 1)), rows)
    with pytest.raises(CheckpointError, match=r"stack of 3.*one list of 2"):
        find_stack(Decoder(lambda hidden: hidden, layers=3))


class Caller(Decoder):
    """Calls its layers in an order, with arguments."""

    def __init__(self, order=(0, 1), **kwargs):
        super().__init__(None)
        self.order, self.kwargs = order, kwargs

    def forward(self, input_ids, use_cache):
        assert use_cache is False
        hidden = nn.functional.one_hot(input_ids, 4).float()
        for i in self.order:
            hidden = self.stack[i](hidden, i, **self.kwargs)
        return pytest.fail("went on after the last layer")


def test_the_states_before_the_first_layer_and_every_call_are_recorded():
    mask = torch.ones(3, 3)
    hidden, calls, tuples = record(find_stack(Caller(attention_mask=mask)), ROWS)
    assert torch.equal(hidden, STATES) and tuples is False
    assert [call.args for call in calls] == [(0,), (1,)]
    assert all(call.kwargs == {"attention_mask": mask} and call.kwargs["attention_mask"] is mask for call in calls)


def test_hidden_states_by_keyword_are_taken_out_of_the_call():
    class Keyword(Caller):
        def forward(self, input_ids, use_cache):
            hidden = nn.functional.one_hot(input_ids, 4).float()
            for layer in self.stack:
                hidden = layer(hidden_states=hidden, position=7)

    hidden, calls, _ = record(find_stack(Keyword()), ROWS)
    assert torch.equal(hidden, STATES) and calls == [Call((), {"position": 7})] * 2


@pytest.mark.parametrize("order", [(1, 0), (0, 0, 1)], ids=["backwards", "twice"])
def test_layers_called_out_of_turn_are_refused(order):
    with pytest.raises(CheckpointError, match=r"decoder Caller: does not hand each layer's.*without calibration"):
        record(find_stack(Caller(order)), ROWS)


def test_a_cache_is_refused_by_layer():
    with pytest.raises(CheckpointError, match="decoder layer 0: called with a cache; expected a layer that keeps no"):
        record(find_stack(Caller(past_key_values=object())), ROWS)
    assert len(record(find_stack(Caller(past_key_values=None)), ROWS)[1]) == 2


class Model(nn.Module):
    """A decoder within a model; its first layer holds a list of experts as long as the list of layers."""

    def __init__(self, *lists):
        super().__init__()
        self.model, self.other = nn.Module(), nn.ModuleList(nn.Identity() for _ in range(2))
        self.model.inner = nn.Module()
        for name, length in lists:
            setattr(self.model.inner, name, nn.ModuleList(nn.Module() for _ in range(length)))
            getattr(self.model.inner, name)[0].experts = nn.ModuleList(nn.Identity() for _ in range(2))
        text = SimpleNamespace(num_hidden_layers=2)
        self.config = SimpleNamespace(get_text_config=lambda decoder: text if decoder else None)

    def get_decoder(self):
        return self.model


def test_the_path_of_the_stack_leads_there_from_the_model():
    model = Model(("layers", 2), ("norms", 3))
    stack = find_stack(model)
    assert stack.path == "model.inner.layers" and stack.decoder is model.model.inner
    assert stack.layers == list(model.model.inner.layers)


@pytest.mark.parametrize(
    "lists, message",
    [
        ((), "lists of modules: none; expected one list of 2 decoder layers"),
        ((("layers", 3),), "lists of modules: inner.layers of 3; expected"),
        ((("a", 2), ("b", 2)), "lists of modules: inner.a of 2, inner.b of 2; expected"),
    ],
)
def test_none_or_several_lists_of_the_configs_length_are_refused(lists, message):
    with pytest.raises(CheckpointError, match=message):
        find_stack(Model(*lists))


def test_forwards_are_replaced_for_a_while_and_given_back_after_an_error():
    layers = [nn.Identity(), nn.Identity()]
    with pytest.raises(KeyError), forwards(layers, [lambda x: x + 1, lambda x: x * 10]):
        assert [layer(2) for layer in layers] == [3, 20]
        raise KeyError
    assert [layer(2) for layer in layers] == [2, 2] and all("forward" not in vars(layer) for layer in layers)


def test_equal_tensors_of_one_kind_are_held_once_wherever_they_stand():
    shared, mask, table = Shared(), torch.eye(3), torch.arange(4.0)
    first = shared.call(Call((mask, 5), {"rotary": (table, table + 1), "cache": None}))
    second = shared.call(Call((mask.clone(), 6), {"rotary": [table.clone()], "nested": {"mask": mask.clone()}}))
    assert first.args[0] is second.args[0] is second.kwargs["nested"]["mask"] is mask
    assert first.kwargs["rotary"][0] is second.kwargs["rotary"][0] is table
    assert torch.equal(first.kwargs["rotary"][1], table + 1) and isinstance(second.kwargs["rotary"], list)
    assert (first.args[1], second.args[1], first.kwargs["cache"]) == (5, 6, None)


def test_tensors_that_differ_in_dtype_shape_or_value_stay_apart():
    shared, ones = Shared(), torch.ones(4)
    others = [ones.bool(), ones.double(), ones.reshape(2, 2), ones * 2]
    for tensor in (ones, *others):
        (held,) = shared.call(Call((tensor,), {})).args
        assert held is tensor
