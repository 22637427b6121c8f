"""What a shipped engine's record says: the card and the run report read it from here, and from nowhere else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from slipway.config.load import Config
from slipway.evaluation.metric import read_metrics
from slipway.store.artifacts import Adapter, Engine, Evaluation, Verdict
from slipway.store.lineage import Ancestor, lineage


@dataclass(frozen=True)
class RunRecord:
    """`quality`: `base`, `merged`, `candidate`, and `champion` and `best` when there is one. `run`: names and links of
    this run (git commit, flow run, tracking run), shown as they are; `decision`: Markdown of what was decided, empty
    before."""

    config: Config
    engine: Engine
    verdict: Verdict
    adapter: Adapter
    quality: Mapping[str, Evaluation]
    run: Mapping[str, str]
    decision: str = ""

    @cached_property
    def ancestors(self) -> list[Ancestor]:
        """Every artifact that engine, adapter and verdict were made from, with its role."""
        return lineage(self.engine, self.adapter, self.verdict)

    @cached_property
    def judged(self) -> dict[str, Any]:
        """The verdict's document: outcome and rules."""
        doc: dict[str, Any] = self.verdict.read_json("verdict.json")
        return doc

    def stage(self, name: str) -> Ancestor | None:
        """What stage `name` made on the way to this engine; None when its bytes are gone."""
        return next((a for a in self.ancestors if a.stage == name), None)

    def summary(self, stage: str) -> dict[str, Any]:
        """The figures of a stage, empty when it left none."""
        return self.document(stage, "summary.json")

    def document(self, stage: str, name: str) -> dict[str, Any]:
        """A JSON document of the artifact that a stage made; empty when there is none."""
        made = self.stage(stage)
        file = Path(made.uri) / name if made else None
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file and file.is_file() else {}

    def training(self) -> list[dict[str, float]]:
        """One document an optimizer step: `step`, `loss` and more."""
        with (self.adapter.path / "training.jsonl").open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]

    def metrics(self) -> dict[str, dict[str, Any]]:
        """The metrics of each served model that was evaluated."""
        return {name: read_metrics(evaluation) for name, evaluation in self.quality.items()}

    def speeds(self) -> dict[str, list[dict[str, Any]]]:
        """Speed runs of the models whose speed was measured."""
        return {n: e.read_json("speed.json") for n, e in self.quality.items() if (e.path / "speed.json").exists()}

    def memory(self) -> dict[str, list[list[float]]]:
        """Resident memory of each served model's server while it was asked: pairs of seconds and bytes."""
        files = {n: e.path / "memory.json" for n, e in self.quality.items()}
        return {n: json.loads(file.read_text(encoding="utf-8")) for n, file in files.items() if file.is_file()}

    def boots(self) -> list[dict[str, Any]]:
        """The measured starts of the engine that ships, cold ones first (`engines.boots.Boot` as documents); empty when
        none was measured."""
        file = self.engine.path / "boots.json"
        return list(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else []
