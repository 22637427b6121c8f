"""A simulated H100 for the throughput search: a physical model through points measured by hand, with noise and
out-of-memory errors."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from slipway.training.tuning.cost_model import filled_share
from slipway.training.tuning.search import STEPS, step_tokens
from slipway.training.tuning.setting import Machine, Result, Setting
from slipway.training.tuning.step_rate import clearly_slower, rate

GIB = 2**30
UNTUNED = Setting(2048, 1, "full")
BYTES_PER_TOKEN = {"none": 6.6e6, "selective": 0.95e6, "full": 0.25e6}  # of an 8B; logits included


def documents() -> list[int]:
    """Lengths of 400 documents as instruction data have them, tokens."""
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
        """The loaded model: 5.6 GiB resident after 50 seconds."""
        return Machine("simulated", int(5.6 * GIB), 50.0, self.attentions, ("masked", "chunked"))

    def speed(self, s: Setting) -> float:
        """Non-padding tokens a second of a setting, without noise."""
        passes = {"none": 2.0, "selective": 2.45, "full": 3.0}[s.checkpointing]
        seconds = passes * (2.8e-5 * s.tokens + 0.135 + 5.0e-9 * s.tokens * s.pack_length)
        slow = {"sdpa": 1.0, "eager": 1.9, "flash_attention_2": 0.8}[s.attention]
        return s.tokens * filled_share(documents(), s.pack_length) / seconds / slow

    def memory(self, s: Setting) -> float:
        """Peak bytes of a setting."""
        eager = 2.0e-9 * 8e9 * s.pack_length / 2048 if s.attention == "eager" else 0.0
        loss = 0.6e6 if s.loss == "masked" else 0.1e6
        return 5.6 * GIB + s.tokens * (BYTES_PER_TOKEN[s.checkpointing] + loss) + eager * 1e6

    def probe(self, setting: Setting, best_low: float) -> Result:
        """A result as the probe process would measure it, with noise; advances the clock."""
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
        measured, peak = rate(counts, times), int(self.memory(setting))
        return Result(setting, status, measured.mean, measured.low, measured.high, rows, each, peak, peak, wall)
