"""Section `engine`: what serves. Short because a section is one file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slipway.config.base import Section


class EngineConfig(Section):
    """Checkpoint -> runtime bundle."""

    kind: Literal["llama.cpp"] = Field("llama.cpp", description="Engine; `llama.cpp` is embedded and runs on a CPU.")
    package: str = Field("llama-cpp-python", description="PyPI source package that vendors llama.cpp.")
    version: str = Field("0.3.36", description="Version of that package.")
    sha256: str = Field(
        "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e",
        description="sha256 of the package's source archive, hex.",
    )
    build_jobs: int = Field(2, ge=1, description="Compiler processes at a time.")
    context: int = Field(1024, ge=128, description="Context per slot, tokens.")
    slots: int = Field(8, ge=1, description="Requests decoded together.")
    threads: int | None = Field(None, ge=1, description="CPU threads; null: all cores.")
