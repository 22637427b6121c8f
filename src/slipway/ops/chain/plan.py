"""`slipway plan`: the stages of a run, what they take, what they replace; saved, and compared with the world later.

A saved plan names what it was made for: the resolved config, DVC's data, the code of every stage, the keys that were
known, and what served at the target. A run of it begins only while all of that stands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from slipway.config.load import Config
from slipway.data.dvc_lock import locked_stages
from slipway.engines.choose import resolved
from slipway.errors import ConfigError
from slipway.ops.chain.earlier_data import champions_data_or_none
from slipway.ops.chain.replaced import AtTarget, at_target, rivals
from slipway.ops.chain.walk import PlannedStage, walk
from slipway.ops.preflight.config_rules import refuse_early
from slipway.ops.preflight.finding import Finding
from slipway.ops.preflight.preflight import preflight
from slipway.ops.preflight.retrieval_checks import RetrievalForecast, retrieval_forecast
from slipway.ops.preflight.target_checks import forecast
from slipway.pipeline.measurements import read_measurements
from slipway.pipeline.remote_machine import remote_machine
from slipway.planning.serving_forecast import ServingForecast
from slipway.store.source_memory import remembered
from slipway.system.files import canonical, sha256_bytes, write_atomic
from slipway.system.json_files import read_model

FORMAT = 1
_FOLLOWS = ("key of ", "stage ")  # what moves because something else did


class SavedPlan(BaseModel):
    """`slipway plan --out`: what a run of it repeats (`conf`, `overrides`), what must not have moved (`world`), and
    what people read (`document`)."""

    slipway_plan: int = Field(ge=1)
    conf: str
    overrides: list[str]
    world: dict[str, str]
    document: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """A run before it begins."""

    name: str
    stages: Sequence[PlannedStage]
    target: AtTarget
    candidate: str  # digest of the engine, where it is made already
    data: str  # digest of the rows; empty where DVC makes them first
    unreadable: int  # lines of the measurements that were left out
    warnings: Sequence[str] = ()
    preflight: Sequence[Finding] = ()
    serving: ServingForecast | None = None  # of an engine on a GPU
    retrieval: RetrievalForecast | None = None  # of the embedder and the index beside the engine
    index: str = ""  # digest of the index that goes with the engine, or `known.UNMADE`; empty for none

    @property
    def nothing_to_do(self) -> bool:
        """Whether every stage is reused and what the run ends with serves already."""
        same = self.candidate == self.target.engine != "" and self.index == self.target.index
        return same and all(stage.state == "reused" for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        """The same as plain values: `total` sums what has figures, `without_figure` names the stages that have none,
        `longest` the stage that decides the time."""
        todo = [stage for stage in self.stages if stage.state != "reused"]
        known = {stage.title: stage.estimate for stage in todo if stage.estimate}
        seconds = {title: estimate.figures.seconds for title, estimate in known.items()}
        return {
            "name": self.name,
            "stages": [
                {**asdict(one), "changes": [asdict(c) for c in one.changes], "moves": [asdict(m) for m in one.moves]}
                for one in self.stages
            ],
            "total": {
                "seconds": sum(seconds.values()),
                "disk_bytes": sum(estimate.figures.disk_bytes for estimate in known.values()),
                "moved_bytes": sum(move.bytes for one in todo for move in one.moves),
                "peak_bytes": max((estimate.figures.peak_bytes for estimate in known.values()), default=0),
                "longest": max(seconds, key=lambda title: seconds[title], default=""),
                "by_formula": [title for title, estimate in known.items() if estimate.by],
                "without_figure": [stage.title for stage in todo if not (stage.estimate and seconds[stage.title])],
            },
            "target": asdict(self.target),
            "nothing_to_do": self.nothing_to_do,
            "unreadable_measurements": self.unreadable,
            "warnings": list(self.warnings),
            "serving": asdict(self.serving) if self.serving else None,
            "retrieval": self.retrieval.to_json() if self.retrieval else None,
            "preflight": [row.to_json() for row in self.preflight],
        }

    def world(self, config: Config, root: Path) -> dict[str, str]:
        """What the plan rests on, by name; two worlds are compared field by field."""
        plain = config.model_dump(mode="json")
        sections = {f"config {name}": sha256_bytes(canonical(value))[:12] for name, value in plain.items()}
        data = {"data": self.data[:12]} | {
            f"data {out['path']}": str(out["md5"])[:12]
            for stage in locked_stages(root).values()
            for out in stage.get("outs", ())
        }
        code = {f"code of {stage.title}": stage.code[:12] for stage in self.stages if stage.code}
        keys = {f"key of {stage.title}": stage.key[:12] for stage in self.stages if stage.key}
        states = {f"stage {stage.title}": stage.state for stage in self.stages}
        champion = f"{self.target.release} {self.target.engine[:12]}".strip() or self.target.unasked or "nothing"
        return {**sections, **data, **code, **keys, **states, f"champion at {self.target.target}": champion}


def shipped_name(config: Config) -> str:
    """What a run of the whole chain makes: `smollm2-135m qlora nvfp4a16 -> local`."""
    return f"{config.model.name} {config.train.method} {config.quantize.format} -> {config.deploy.target}"


def as_run(config: Config) -> tuple[Config, list[str]]:
    """The config as a run would take it, with `engine.kind: auto` made an engine, and lines that say by what it was
    chosen. Raises ConfigError and others for what is refused before any work."""
    engine, choice = resolved(config.engine, config.model, config.quantize, config.serving)
    config = config.model_copy(update={"engine": engine})
    refuse_early(config)
    return config, choice.lines() if choice else []


def plan(config: Config, root: Path) -> Plan:
    """The run of this config, as `as_run` makes it, in the project at `root`. Raises what refuses it before any
    work."""
    record = read_measurements(Path(config.store.root))
    machine = remote_machine(config.remote)
    with remembered(Path(config.store.root)):
        champions = champions_data_or_none(config)
        chain = walk(config, root, partial(rivals, config), record.rows, machine, champions)
    target = at_target(config, chain.candidate, index=chain.index)
    candidate = chain.candidate.digest if chain.candidate else ""
    name = shipped_name(config)
    retrieval = retrieval_forecast(config, root)
    ready = preflight(config, chain.stages, chain.dataset, machine, retrieval)
    return Plan(
        name,
        chain.stages,
        target,
        candidate,
        chain.data,
        record.unreadable,
        chain.warnings,
        ready,
        serving=forecast(config),
        retrieval=retrieval,
        index=chain.index,
    )


def save(made: Plan, config: Config, root: Path, conf: Path, overrides: Sequence[str], file: Path) -> None:
    """Write the plan for `slipway run FILE`."""
    saved = SavedPlan(
        slipway_plan=FORMAT,
        conf=str(conf),
        overrides=list(overrides),
        world=made.world(config, root),
        document=made.to_json(),
    )
    write_atomic(file, json.dumps(saved.model_dump(mode="json"), indent=1) + "\n")


def read_plan(file: Path) -> SavedPlan:
    """A saved plan. Raises StateError when the file is none or damaged, ConfigError for one of another version."""
    saved = read_model(SavedPlan, file, f"plan {file}", "make it again: `slipway plan --out FILE`")
    if saved.slipway_plan != FORMAT:
        raise ConfigError(
            f"plan {file}", f"format {saved.slipway_plan}", f"format {FORMAT}", "`slipway plan --out FILE`"
        )
    return saved


def require_unmoved(saved: SavedPlan, now: Mapping[str, str], file: Path) -> None:
    """Raise ConfigError that names what differs between the world of a saved plan and that of now."""
    moved_names = [name for name in dict.fromkeys([*saved.world, *now]) if saved.world.get(name) != now.get(name)]
    if not moved_names:
        return
    causes = [name for name in moved_names if not name.startswith(_FOLLOWS)]
    names = causes or moved_names
    moved = "; ".join(f"{name}: {saved.world.get(name, '-')} -> {now.get(name, '-')}" for name in names[:6])
    more = f"; and {len(names) - 6} more" if len(names) > 6 else ""
    raise ConfigError(f"plan {file}", f"the world moved: {moved}{more}", "what it was made for", "`slipway plan` again")
