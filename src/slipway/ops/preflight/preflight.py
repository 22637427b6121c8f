"""Everything that a run needs of every machine, asked at once and before any work: one table.

`slipway plan` shows it; a run makes it first and begins only where no row fails. The rows come from what each check is
about: this machine's from `slipway doctor`, a target's from its agent's probe, memory from `planning/`.
"""

from __future__ import annotations

import os
import platform
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from slipway.agent import probe
from slipway.config.load import Config
from slipway.errors import ResourceError, SlipwayError
from slipway.ops import doctor
from slipway.ops.chain.walk import PlannedStage
from slipway.ops.preflight import machine_checks as checks
from slipway.ops.preflight.data_checks import data_checks
from slipway.ops.preflight.finding import HERE, Finding, of_check, of_error
from slipway.ops.preflight.machine_checks import Answer, Needs, machine_checks
from slipway.ops.preflight.retrieval_checks import RetrievalForecast, retrieval_checks
from slipway.ops.preflight.target_checks import target_checks
from slipway.ops.preflight.training_checks import training_checks
from slipway.ops.services import Services
from slipway.pipeline.remote_machine import RemoteMachine
from slipway.store.artifacts import Dataset


def preflight(
    config: Config,
    stages: Sequence[PlannedStage],
    data: Dataset | None,
    machine: RemoteMachine | None,
    retrieval: RetrievalForecast | None = None,
) -> list[Finding]:
    """The table for a run of these stages. `data`: the prepared rows where they are there; `machine`: the one of
    `remote.host`; `retrieval`: what goes beside the engine. Machines are asked beside each other; one that does not
    answer is a row that fails."""
    summary = data.summary if data else None
    todo = [stage for stage in stages if stage.state != "reused"]
    release = release_bytes(stages)
    with ThreadPoolExecutor() as pool:
        target = pool.submit(lambda: list(target_checks(config, release)))
        training = pool.submit(lambda: list(training_checks(config)) if _runs(todo, "train") else [])
        there = pool.submit(lambda: list(remote_checks(config, todo, machine)) if machine else [])
        rows = [*here_checks(config, todo), *data_checks(config, summary)]
        beside = retrieval_checks(config, retrieval)
        return [*rows, *there.result(), *training.result(), *target.result(), *beside]


def release_bytes(stages: Sequence[PlannedStage]) -> float:
    """What a release takes by the stages' figures: the weights and one index, of several that are compared the largest;
    0 where nobody knows."""
    sizes = {one.title: one.estimate.figures.disk_bytes for one in stages if one.estimate}
    indices = [size for title, size in sizes.items() if title.startswith("index ")]
    return sizes.get("quantize", 0) + max(indices, default=0)


def here_checks(config: Config, todo: Sequence[PlannedStage]) -> Iterator[Finding]:
    """This machine: what the stages that run here need, and what every run needs of it."""
    root = Path(config.store.root)
    needs = needs_of(todo, "", config)
    architecture = probe.ARCHITECTURES.get(platform.machine(), platform.machine())
    yield checks.architecture(HERE, {"architecture": architecture}, needs)
    yield checks.disk(HERE, {"disk": probe.disk(root)}, needs)
    yield checks.memory(HERE, {"memory": probe.memory()}, needs)
    if needs.disk or needs.unmeasured:
        yield of_check(HERE, doctor.disk("cache", Path(config.store.cache).expanduser()))
    if _runs([one for one in todo if not one.machine], "engine") and config.engine.kind == "llama.cpp":
        yield from (of_check(HERE, one) for one in doctor.engine(config.engine, Path(config.store.cache).expanduser()))
    yield of_check(HERE, doctor.proxies(os.environ))
    try:
        yield of_check(HERE, doctor.credentials(Services.here()))
    except SlipwayError as err:
        yield of_error(HERE, "credentials", err, "warn")


def remote_checks(config: Config, todo: Sequence[PlannedStage], machine: RemoteMachine) -> Iterator[Finding]:
    """The machine of `remote.host`. Its host key and login are ssh's, whose words the row of an error has."""
    where = machine.address
    needs = needs_of(todo, where, config)
    try:
        answer: Answer = machine.look()
        now = time.time()
    except SlipwayError as err:
        yield of_error(where, "login, host key and Python", err)
        return
    yield Finding(where, "login, host key and Python", "ok", f"answers, with Python {answer.get('python')}")
    yield from machine_checks(where, answer, needs, now, _nothing)


def needs_of(todo: Sequence[PlannedStage], address: str, config: Config) -> Needs:
    """What the stages that run at `address` (empty: here) need of the machine, by their figures."""
    there = [stage for stage in todo if stage.machine == address]
    figures = {stage.title: stage.estimate.figures for stage in there if stage.estimate}
    peaks = defaultdict(float, {title: one.peak_bytes for title, one in figures.items()})
    largest = max(peaks, key=lambda title: peaks[title], default="")
    row = config.target if config.train.backend == "nemo" and _runs(there, "train") and address else None
    return Needs(
        disk=sum(one.disk_bytes for one in figures.values()),
        memory=peaks[largest] if largest else 0.0,
        memory_by=largest,
        unmeasured=tuple(stage.title for stage in there if not stage.estimate),
        architecture=config.target.arch if row else "",
        row=row,
    )


def _runs(stages: Sequence[PlannedStage], name: str) -> bool:
    return any(stage.title.split()[0] == name for stage in stages)


def _nothing(reference: str, _: str) -> str:
    raise ResourceError(f"image {reference}", "nobody was asked", "a registry", "pull it there")
