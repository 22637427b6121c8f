"""The search against a simulated H100: a physical model that passes through the points measured by hand, with noise and
OOMs."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from slipway.cli.tune import TuneOptions, run_tune
from slipway.config.load import load_config
from slipway.config.train import TrainConfig
from slipway.errors import ConfigError
from slipway.training.tuning.cost_model import MemoryModel, SpeedModel, filled_share, non_negative
from slipway.training.tuning.search import STEPS, Search, SearchResult, search_space, step_tokens
from slipway.training.tuning.setting import Machine, Result, Setting
from slipway.training.tuning.step_rate import clearly_slower, rate
from slipway.training.tuning.tune import train_row, tuned_params

ROOT = Path(__file__).resolve().parents[4]
GIB = 2**30
UNTUNED = Setting(2048, 1, "full")
BYTES_PER_TOKEN = {"none": 6.6e6, "selective": 0.95e6, "full": 0.25e6}  # of an 8B; logits included
MEASURED = {  # tokens a second and GiB, by hand on an H100
    UNTUNED: (3244, 6.1),
    Setting(2048, 4, "selective"): (6271, 13.1),
    Setting(4096, 1, "none"): (7190, 31.8),
    Setting(8192, 1, "full"): (3479, None),
}


def documents() -> list[int]:
    source = random.Random(0)
    return [max(16, min(1900, int(source.lognormvariate(5.4, 0.8)))) for _ in range(400)]


@dataclass
class SimulatedH100:
    """`dies`: settings that end the process. `clock` advances by what a probe would have taken."""

    limit: float
    noise: float = 0.01
    dies: frozenset[Setting] = frozenset()
    attentions: tuple[str, ...] = ("sdpa", "eager")
    seconds: float = 0.0
    probes: list[Setting] = field(default_factory=list)
    steps: int = 0
    source: random.Random = field(default_factory=lambda: random.Random(1))

    def start(self) -> Machine:
        return Machine("simulated", int(5.6 * GIB), 50.0, self.attentions, ("masked", "chunked"))

    def speed(self, s: Setting) -> float:
        passes = {"none": 2.0, "selective": 2.45, "full": 3.0}[s.checkpointing]
        seconds = passes * (2.8e-5 * s.tokens + 0.135 + 5.0e-9 * s.tokens * s.pack_length)
        slow = {"sdpa": 1.0, "eager": 1.9, "flash_attention_2": 0.8}[s.attention]
        return s.tokens * filled_share(documents(), s.pack_length) / seconds / slow

    def memory(self, s: Setting) -> float:
        eager = 2.0e-9 * 8e9 * s.pack_length / 2048 if s.attention == "eager" else 0.0
        loss = 0.6e6 if s.loss == "masked" else 0.1e6
        return 5.6 * GIB + s.tokens * (BYTES_PER_TOKEN[s.checkpointing] + loss) + eager * 1e6

    def probe(self, setting: Setting, best_low: float) -> Result:
        self.probes.append(setting)
        if setting in self.dies:
            return Result(setting, "error", seconds=5.0, reason="the probe process died: signal 9")
        if self.memory(setting) > self.limit:
            self.seconds += 3.0
            return Result(setting, "oom", seconds=3.0, reason="CUDA out of memory")
        tokens = max(step_tokens(UNTUNED), setting.tokens)
        each, status, rows = tokens / self.speed(setting), "ok", 0
        counts: list[int] = []
        times: list[float] = []
        for _ in range(STEPS):
            counts.append(tokens)
            times.append(each * (1 + self.source.gauss(0, self.noise)))
            rows += 1
            if clearly_slower(counts, times, best_low):
                status = "slower"
                break
        self.steps += rows
        wall = 2.0 + each * (rows + 1)
        self.seconds += wall
        found, peak = rate(counts, times), int(self.memory(setting))
        return Result(setting, status, found.mean, found.low, found.high, rows, each, peak, peak, wall)


def search(
    machine: SimulatedH100, *, budget_s: float = 300.0, activation_error: float = 1.0, most: int = 16384
) -> SearchResult:
    """Against the wall clock of the simulation. `activation_error`: the planner is wrong by this factor."""
    found = machine.start()

    def activations(s: Setting) -> float:
        return activation_error * s.tokens * {"none": 7e6, "selective": 2e6, "full": 0.6e6}[s.checkpointing]

    lengths = documents()
    speed = SpeedModel(2 * 8.0e9, 4 * 4096 * 32, lambda n: filled_share(lengths, n))
    memory = MemoryModel(found.resident, activations)
    inside = search_space(UNTUNED, found, machine.limit, max(lengths), most)
    return Search(
        machine,
        found,
        inside,
        speed,
        memory,
        deadline=budget_s - found.seconds,
        on_result=lambda _: None,
        clock=lambda: machine.seconds,
    ).run(UNTUNED)


def best_of_all(machine: SimulatedH100, most: int = 16384) -> float:
    """By trying everything."""
    inside = search_space(UNTUNED, machine.start(), machine.limit, max(documents()), most)
    return max(machine.speed(s) for s in inside.settings if machine.memory(s) <= machine.limit)


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
    found = search(machine, activation_error=activation_error)
    assert machine.speed(found.best.setting) >= 0.97 * best_of_all(machine)
    assert found.gain >= 2.1
    assert machine.seconds + 50.0 < 300.0
    assert len(machine.probes) <= 25


@pytest.mark.parametrize("limit_gib", [8, 12, 20, 40, 120])
def test_what_it_writes_fits_the_target_and_is_close_to_the_best_that_fits(limit_gib: int) -> None:
    machine = SimulatedH100(limit_gib * GIB)
    found = search(machine)
    assert found.best.reserved <= limit_gib * GIB
    assert machine.speed(found.best.setting) >= 0.95 * best_of_all(machine)


def test_the_baseline_is_the_first_row_and_every_probe_is_a_row() -> None:
    machine = SimulatedH100(74e9)
    found = search(machine)
    assert found.baseline.setting == UNTUNED == found.results[0].setting
    assert [r.setting for r in found.results] == machine.probes
    assert len(set(machine.probes)) == len(machine.probes)


def test_clearly_slower_settings_are_given_up_before_their_last_step() -> None:
    machine = SimulatedH100(74e9)
    found = search(machine)
    given_up = [r for r in found.results if r.status == "slower"]
    assert any(r.steps < STEPS for r in given_up)
    assert all(r.high < found.best.tokens_per_s for r in given_up)
    assert not [r for r in found.results if r.status == "ok" and r.high < 0.97 * found.results[0].low]


def test_every_attention_and_loss_is_tried() -> None:
    found = search(SimulatedH100(74e9))
    assert {r.setting.attention for r in found.results} == {"sdpa", "eager"}
    assert {r.setting.loss for r in found.results} == {"masked", "chunked"}


def test_a_faster_attention_is_taken_when_it_is_there() -> None:
    machine = SimulatedH100(74e9, attentions=("sdpa", "flash_attention_2", "eager"))
    found = search(machine)
    assert found.best.setting.attention == "flash_attention_2"
    assert machine.speed(found.best.setting) >= 0.97 * best_of_all(machine)


def test_a_probe_that_dies_is_a_row_and_not_the_end() -> None:
    alone = search(SimulatedH100(74e9)).best.setting
    machine = SimulatedH100(74e9, dies=frozenset({alone}))
    found = search(machine)
    assert [r.reason for r in found.results if r.status == "error"] == ["the probe process died: signal 9"]
    assert found.best.setting != alone
    assert found.gain > 2.0


def test_nothing_larger_than_what_did_not_fit_is_probed() -> None:
    machine = SimulatedH100(30 * GIB)
    found = search(machine, activation_error=0.3)
    ooms = [(i, r.setting) for i, r in enumerate(found.results) if r.status == "oom"]
    assert ooms
    for i, big in ooms:
        later = [r.setting for r in found.results[i + 1 :] if r.setting.checkpointing == big.checkpointing]
        assert not any(
            s.pack_length >= big.pack_length
            and s.micro_batch >= big.micro_batch
            and s.loss == big.loss
            and s.attention == big.attention
            for s in later
        )


def test_the_budget_ends_it_with_the_best_so_far() -> None:
    machine = SimulatedH100(74e9)
    found = search(machine, budget_s=80.0)
    assert machine.seconds + 50.0 <= 80.0
    assert found.ended == "the time was up"
    assert found.best.tokens_per_s >= found.baseline.tokens_per_s


def test_a_baseline_that_does_not_fit_is_the_only_row() -> None:
    found = search(SimulatedH100(5 * GIB))
    assert [r.status for r in found.results] == ["oom"]


def test_packs_are_never_shorter_than_the_longest_document() -> None:
    machine = SimulatedH100(74e9)
    search(machine)
    assert min(s.pack_length for s in machine.probes) >= max(documents())


def test_of_two_as_fast_the_smaller_is_taken() -> None:
    a = Result(Setting(4096, 2, "none"), "ok", 7000.0, 6900.0, 7100.0, 3, 1.0, 0, 60)
    b = Result(Setting(4096, 1, "none"), "ok", 6980.0, 6900.0, 7100.0, 3, 1.0, 0, 30)
    assert SearchResult(SimulatedH100(1).start(), b, [a, b]).best is b


def test_rates_are_bounded_and_two_agreeing_steps_do_not_prove_much() -> None:
    found = rate([1000, 1000], [1.0, 1.0])
    assert (found.mean, found.steps) == (1000.0, 2)
    assert found.low == pytest.approx(1000 - 2 * 20 / 2**0.5)
    assert not clearly_slower([1000], [1.0], 1e9)
    assert clearly_slower([1000, 1000], [1.0, 1.0], 1029.0)
    assert not clearly_slower([1000, 1000], [1.0, 1.0], 1028.0)


def test_fit_recovers_what_made_the_data() -> None:
    rows = [
        ([t, 1.0, t * s], 3e-5 * t + 0.2 + 4e-9 * t * s)
        for t, s in [(2048.0, 2048), (4096.0, 4096), (8192.0, 2048), (1024.0, 1024)]
    ]
    assert non_negative(rows, 20000) == pytest.approx((3e-5, 0.2, 4e-9), rel=0.02)


def test_share_of_padding_is_that_of_neat_packing() -> None:
    assert filled_share([3, 3, 2], 4) == pytest.approx(8 / 12)
    assert filled_share([4, 4], 4) == 1.0
    assert filled_share([9], 4) == 0.0


def options(work: Path, model: Path) -> TuneOptions:
    return TuneOptions(60.0, model, None, True, "python3", None, work)


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").write_text("mine")
    (tmp_path / "config.json").write_text("{}")
    config = load_config(ROOT / "conf", ["layers.train=train/nemo-qlora", "layers.target=targets/dgx-h100"])
    with pytest.raises(ConfigError, match="not empty"):
        run_tune(config, options(tmp_path / "work", tmp_path), as_json=True)
    assert (tmp_path / "work" / "thesis.tex").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["layers.train=train/nemo-lora", "layers.model=models/llama-3.3-70b"], "141 GB of weights"),
        (["layers.train=train/nemo-qlora", "layers.target=targets/local"], "a target with a GPU"),
        (["layers.train=train/qlora-cpu"], "backend cpu"),
        (["layers.train=train/nemo-lora", "train.tensor_parallel=2"], "a replica over 2 GPUs"),
    ],
)
def test_what_one_gpu_cannot_show_is_refused_before_anything_starts(
    words: list[str], said: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    config = load_config(ROOT / "conf", ["layers.target=targets/dgx-h100", *words])
    with pytest.raises(ConfigError, match=said):
        run_tune(config, options(tmp_path / "work", tmp_path), as_json=True)
    assert not (tmp_path / "work" / "process.json").exists()


def test_the_tuned_row_keeps_the_tokens_of_a_step_and_loads_as_it_was_meant() -> None:
    params = TrainConfig.model_validate({"backend": "nemo", "global_batch": 32})
    made = tuned_params(params, Setting(4096, 2, "none", "sdpa", "chunked"), ranks=8)
    assert made.global_batch * made.pack_length == params.global_batch * params.pack_length
    assert made.global_batch % (2 * 8) == 0
    assert tuned_params(params, Setting(16384, 8, "none"), ranks=8).global_batch == 64
    found = search(SimulatedH100(74e9))
    config = load_config(ROOT / "conf", ["layers.train=train/nemo-qlora", "layers.target=targets/dgx-h100"])
    written = yaml.safe_load(train_row(found, config, 8))
    assert "by slipway tune" in written.pop("description")
    loaded = TrainConfig.model_validate(written)
    assert loaded == tuned_params(config.train, found.best.setting, 8)
    assert loaded.activation_checkpointing == "none"
