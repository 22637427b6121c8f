"""Artifacts as values: the kinds, and where an artifact says what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from slipway.store.manifest import MANIFEST as MANIFEST
from slipway.store.manifest import read_manifest
from slipway.system.json_files import is_present, read_json, read_value


class Artifact(BaseModel):
    """A frozen value: where the bytes are and what they are. Subclasses name the kind, so that types tell stages
    apart."""

    model_config = ConfigDict(frozen=True)
    kind: ClassVar[str] = "artifact"

    uri: str
    digest: str
    key: str = ""

    @property
    def path(self) -> Path:
        """The directory of its files."""
        return Path(self.uri)

    def read_json(self, name: str) -> Any:
        """The JSON document in one of its files. Raises StateError when somebody has damaged it."""
        return read_value(self.path / name, f"{self.kind} {self.digest[:12]}", self._mend())

    @property
    def manifest(self) -> dict[str, Any]:
        """The document written last: files, digest, key, provenance. Raises StateError when somebody has damaged it."""
        return read_manifest(self.path)

    @property
    def summary(self) -> dict[str, Any]:
        """Small figures that the stage wants shown and logged; empty when the stage wrote none."""
        file = self.path / "summary.json"
        return read_json(file, f"summary of {self.kind} {self.digest[:12]}", self._mend()) if is_present(file) else {}

    def _mend(self) -> str:
        return f"delete {self.path} and run again: it is made anew"


class Dataset(Artifact):
    """`train.jsonl`, `val.jsonl`, `test.jsonl` (chat messages), `card.md`, `summary.json`."""

    kind: ClassVar[str] = "dataset"


class Checkpoint(Artifact):
    """An HF model directory with bf16 safetensors and tokenizer, or a virtual one: `virtual.json` names base and
    adapter."""

    kind: ClassVar[str] = "checkpoint"


class Adapter(Artifact):
    """A PEFT adapter directory: `adapter_model.safetensors`, `adapter_config.json`, `training.jsonl`. Of full
    fine-tuning the model's weights in place of the first two."""

    kind: ClassVar[str] = "adapter"


class Quantized(Artifact):
    """An HF model directory in a quantized layout (ModelOpt unified export)."""

    kind: ClassVar[str] = "quantized"


class Engine(Artifact):
    """A runtime bundle: what the engine loads, `serve.json` saying how, and what makes it valid."""

    kind: ClassVar[str] = "engine"


class Evaluation(Artifact):
    """`items.jsonl` (one line a test item), `metrics.json`, `speed.json`."""

    kind: ClassVar[str] = "evaluation"


class ReferenceScores(Artifact):
    """`scores.jsonl`: what the merge and its quantized form think of the reference answer of each test item."""

    kind: ClassVar[str] = "reference"


class Verdict(Artifact):
    """`verdict.json`: outcome pass / fail / inconclusive, and every rule's figures."""

    kind: ClassVar[str] = "verdict"


class Corpus(Artifact):
    """`documents.jsonl`, `questions.jsonl` (gold spans, halves), `card.md`, `summary.json`."""

    kind: ClassVar[str] = "corpus"


class Chunks(Artifact):
    """`chunks.jsonl`: a line a chunk, its document and character offsets."""

    kind: ClassVar[str] = "chunks"


class Vectors(Artifact):
    """`vectors.npy`, [chunks, dimension] fp32 of length 1; `probes.npy`; `embedder.json`: what made them."""

    kind: ClassVar[str] = "vectors"


class SearchIndex(Artifact):
    """Text, chunks, a BM25 and a FAISS index; `index.json`: digests and probes with their top tens."""

    kind: ClassVar[str] = "index"


class Retrieval(Artifact):
    """`items.jsonl` (a line a question and retriever), `metrics.json`, `speed.json`."""

    kind: ClassVar[str] = "retrieval"


class Choice(Artifact):
    """`choice.json`: outcome, winning arm, the tie, every arm's figures on both halves; `card.md`."""

    kind: ClassVar[str] = "choice"
