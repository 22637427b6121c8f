"""Hidden states on disk: the same bits come back, and only to the walk that they belong to."""

import torch

from slipway.calibration.layer_walk import HiddenStates
from slipway.streaming.state_file import StateFile

CPU = torch.device("cpu")


def streams(seed):
    draw = torch.Generator().manual_seed(seed)
    return [
        HiddenStates([torch.randn(n, 4, 8, generator=draw).to(torch.bfloat16) for n in (2, 1)], []) for _ in range(2)
    ]


def test_states_come_back_at_their_layer(tmp_path):
    file, saved, fresh = StateFile(tmp_path / "s.safetensors", {"pass": "0"}), streams(1), streams(2)
    assert file.restore(fresh, CPU) == 0
    file.save(saved, 3)
    file.save(saved, 5)
    assert file.restore(fresh, CPU) == 5
    assert all(
        torch.equal(a, b) for x, y in zip(saved, fresh, strict=True) for a, b in zip(x.values, y.values, strict=True)
    )
    assert [path.name for path in tmp_path.iterdir()] == ["s.safetensors"]


def test_another_identity_other_streams_and_damage_are_as_good_as_none(tmp_path):
    path = tmp_path / "s.safetensors"
    StateFile(path, {"pass": "0"}).save(streams(1), 3)
    before = streams(2)
    assert StateFile(path, {"pass": "1"}).restore(before, CPU) == 0
    assert StateFile(path, {"pass": "0"}).restore(before[:1], CPU) == 0
    path.write_bytes(path.read_bytes()[:-5])
    assert StateFile(path, {"pass": "0"}).restore(before, CPU) == 0
    assert torch.equal(before[0].values[0], streams(2)[0].values[0])
