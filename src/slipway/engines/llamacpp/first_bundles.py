"""`serve.json` as bundles had it before there was a plan: releases of then must still start for a rollback."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from slipway.config.base import Section
from slipway.engines.driver import ServePlan
from slipway.engines.llamacpp.serve_command import serve_plan


class FirstServe(Section):
    """How a llama.cpp bundle was served."""

    kind: Literal["llama.cpp"] = Field("llama.cpp", description="Engine.")
    model: str = Field(description="Model file in the bundle.")
    server: str = Field(description="Server program in the bundle.")
    alias: str = Field("slipway", description="Model name that the endpoint answers to.")
    context: int = Field(description="Context per slot, tokens.")
    slots: int = Field(description="Requests decoded together.")
    threads: int | None = Field(description="CPU threads; null: all cores that the process may use.")
    build: str = Field(description="Id of the server's build: package version, CPU and compiler.")
    cpu: str = Field(description="Digest of the CPU that the server is compiled for.")

    def plan(self) -> ServePlan:
        """The same server as a plan."""
        plan = serve_plan(
            context=self.context,
            slots=self.slots,
            threads=self.threads,
            alias=self.alias,
            server=self.server,
            model=self.model,
        )
        return plan.model_copy(update={"build": self.build, "cpu": self.cpu})


def is_first(document: Any) -> bool:
    """Whether a `serve.json` is of that time: it names a server program and no command."""
    return isinstance(document, dict) and "server" in document and "argv" not in document
