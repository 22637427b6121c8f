"""The search against a simulated H100: a physical model that passes through the points measured by hand, with noise and
OOMs."""

from __future__ import annotations

import pytest

from slipway.training.tuning.cost_model import MemoryModel, SpeedModel, filled_share
from slipway.training.tuning.search import STEPS, Search, SearchResult, search_space
from slipway.training.tuning.setting import Result, Setting
from tests.support.simulated_h100 import GIB, UNTUNED, SimulatedH100, documents

RECOMPUTATION = ("none", "selective", "full")
MEASURED = {  # tokens a second and GiB, by hand on an H100
    UNTUNED: (3244, 6.1),
    Setting(2048, 4, "selective"): (6271, 13.1),
    Setting(4096, 1, "none"): (7190, 31.8),
    Setting(8192, 1, "full"): (3479, None),
}


def search(
    machine: SimulatedH100, *, budget_s: float = 300.0, activation_error: float = 1.0, most: int = 16384
) -> SearchResult:
    """Against the wall clock of the simulation. `activation_error`: the planner is wrong by this factor."""
    loaded = machine.start()

    def activations(s: Setting) -> float:
        return activation_error * s.tokens * {"none": 7e6, "selective": 2e6, "full": 0.6e6}[s.checkpointing]

    lengths = documents()
    speed = SpeedModel(2 * 8.0e9, 4 * 4096 * 32, lambda n: filled_share(lengths, n))
    memory = MemoryModel(loaded.resident, activations)
    settings = search_space(UNTUNED, loaded, machine.limit, max(lengths), most, RECOMPUTATION)
    return Search(
        machine,
        loaded,
        settings,
        speed,
        memory,
        deadline=budget_s - loaded.seconds,
        on_result=lambda _: None,
        clock=lambda: machine.seconds,
    ).run(UNTUNED)


def best_of_all(machine: SimulatedH100, most: int = 16384) -> float:
    """By trying everything."""
    settings = search_space(UNTUNED, machine.start(), machine.limit, max(documents()), most, RECOMPUTATION)
    return max(machine.speed(s) for s in settings.settings if machine.memory(s) <= machine.limit)


def test_the_simulation_passes_near_the_measured_points() -> None:
    machine = SimulatedH100(80e9)
    for setting, (tokens_per_s, _) in MEASURED.items():
        assert machine.speed(setting) / filled_share(documents(), setting.pack_length) == pytest.approx(
            tokens_per_s, rel=0.2
        )


@pytest.mark.parametrize("activation_error", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_it_finds_the_best_of_all_within_a_few_percent_and_five_minutes(activation_error: float, noise: float) -> None:
    machine = SimulatedH100(74e9, noise)
    result = search(machine, activation_error=activation_error)
    assert machine.speed(result.best.setting) >= 0.97 * best_of_all(machine)
    assert result.gain >= 2.1
    assert machine.seconds + 50.0 < 300.0
    assert len(machine.probes) <= 25


@pytest.mark.parametrize("limit_gib", [8, 12, 20, 40, 120])
def test_what_it_writes_fits_the_target_and_is_close_to_the_best_that_fits(limit_gib: int) -> None:
    machine = SimulatedH100(limit_gib * GIB)
    result = search(machine)
    assert result.best.reserved <= limit_gib * GIB
    assert machine.speed(result.best.setting) >= 0.95 * best_of_all(machine)


def test_the_baseline_is_the_first_row_and_every_probe_is_a_row() -> None:
    machine = SimulatedH100(74e9)
    result = search(machine)
    assert result.baseline.setting == UNTUNED == result.results[0].setting
    assert [r.setting for r in result.results] == machine.probes
    assert len(set(machine.probes)) == len(machine.probes)


def test_clearly_slower_settings_are_given_up_before_their_last_step() -> None:
    machine = SimulatedH100(74e9)
    result = search(machine)
    given_up = [r for r in result.results if r.status == "slower"]
    assert any(r.steps < STEPS for r in given_up)
    assert all(r.high < result.best.tokens_per_s for r in given_up)
    assert not [r for r in result.results if r.status == "ok" and r.high < 0.97 * result.results[0].low]


def test_every_attention_and_loss_is_tried() -> None:
    result = search(SimulatedH100(74e9))
    assert {r.setting.attention for r in result.results} == {"sdpa", "eager"}
    assert {r.setting.loss for r in result.results} == {"masked", "chunked"}


def test_a_faster_attention_is_taken_when_it_is_there() -> None:
    machine = SimulatedH100(74e9, attentions=("sdpa", "flash_attention_2", "eager"))
    result = search(machine)
    assert result.best.setting.attention == "flash_attention_2"
    assert machine.speed(result.best.setting) >= 0.97 * best_of_all(machine)


def test_a_probe_that_dies_is_a_row_and_not_the_end() -> None:
    alone = search(SimulatedH100(74e9)).best.setting
    machine = SimulatedH100(74e9, dies=frozenset({alone}))
    result = search(machine)
    assert [r.reason for r in result.results if r.status == "error"] == ["the probe process died: signal 9"]
    assert result.best.setting != alone
    assert result.gain > 2.0


def test_nothing_larger_than_what_did_not_fit_is_probed() -> None:
    machine = SimulatedH100(30 * GIB)
    result = search(machine, activation_error=0.3)
    ooms = [(i, r.setting) for i, r in enumerate(result.results) if r.status == "oom"]
    assert ooms
    for i, big in ooms:
        later = [r.setting for r in result.results[i + 1 :] if r.setting.checkpointing == big.checkpointing]
        assert not any(
            s.pack_length >= big.pack_length
            and s.micro_batch >= big.micro_batch
            and s.loss == big.loss
            and s.attention == big.attention
            for s in later
        )


def test_the_budget_ends_it_with_the_best_so_far() -> None:
    machine = SimulatedH100(74e9)
    result = search(machine, budget_s=80.0)
    assert machine.seconds + 50.0 <= 80.0
    assert result.ended == "the time was up"
    assert result.best.tokens_per_s >= result.baseline.tokens_per_s


def test_a_baseline_that_does_not_fit_is_the_only_row() -> None:
    result = search(SimulatedH100(5 * GIB))
    assert [r.status for r in result.results] == ["oom"]


def test_packs_are_never_shorter_than_the_longest_document() -> None:
    machine = SimulatedH100(74e9)
    search(machine)
    assert min(s.pack_length for s in machine.probes) >= max(documents())


def test_of_two_as_fast_the_smaller_is_taken() -> None:
    a = Result(Setting(4096, 2, "none"), "ok", 7000.0, 6900.0, 7100.0, 3, 1.0, 0, 60)
    b = Result(Setting(4096, 1, "none"), "ok", 6980.0, 6900.0, 7100.0, 3, 1.0, 0, 30)
    assert SearchResult(SimulatedH100(1).start(), b, [a, b]).best is b
