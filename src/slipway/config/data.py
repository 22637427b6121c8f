"""Section `data`: raw rows to splits."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from slipway.config.base import InputFile, Section, born

Column = Literal[
    "messages", "conversations", "instruction", "input", "output", "history", "prompt", "completion", "system", "tools",
    "id", "label", "template",
]  # fmt: skip


class DataConfig(Section):
    """Raw rows -> validated, deduplicated, balanced -> splits by template."""

    raw: InputFile = Field(
        "data/raw/home.jsonl",
        description="Chat JSONL with `messages`, your own or the default corpus, whose splits DVC versions.",
    )
    format: Annotated[Literal["auto", "chat", "sharegpt", "alpaca", "pairs"], born("auto")] = Field(
        "auto",
        description="What a record is: chat `messages`; ShareGPT `conversations`; Alpaca's `instruction`, `input`, "
        "`output`; pairs of `prompt` and `completion`. auto: by its columns. The kind of file is always detected.",
    )
    columns: Annotated[dict[Column, str], born({})] = Field(
        default_factory=dict,
        description="Your columns under the names of the formats: `{prompt: question, completion: answer}`.",
    )
    invalid: Annotated[Literal["refuse", "drop"], born("refuse")] = Field(
        "refuse", description="A row that cannot be taken ends the run (refuse), or is left out and counted (drop)."
    )
    name: Annotated[str | None, born(None)] = Field(
        None, max_length=100, description="Name of the data, in the registered model's; null: that of the raw file."
    )
    system: str | None = Field(
        None, description="System prompt put before every row that has none; null leaves rows as they are."
    )
    label_key: str | None = Field(
        None,
        description="Key of the assistant's JSON that names the class to balance and to score; null: answers are "
        "free text and rows may name a `label`.",
    )
    labels: Annotated[list[str] | None, born(None)] = Field(
        None, min_length=1, description="Labels used, rows of others are left out and counted; null: all."
    )
    test_fraction: float = Field(
        0.15, gt=0, lt=0.5, description="Share of templates held out for the test set, per label."
    )
    val_fraction: float = Field(
        0.05, ge=0, lt=0.5, description="Share of templates held out for validation, per label."
    )
    draw: Annotated[int, born(1)] = Field(
        1,
        ge=1,
        description="Which templates are held out: 2 holds out others than 1, and so on; what an earlier draw held out "
        "trains. For a fresh test set when choices were made with the last one in view.",
    )
    per_label: int | None = Field(None, ge=1, description="Most training rows kept per label, rows; null: all.")
    val_per_label: int | None = Field(None, ge=1, description="Most validation rows kept per label, rows; null: all.")
    test_per_label: int | None = Field(None, ge=1, description="Most test rows kept per label, rows; null: all.")
    near_duplicate: float = Field(
        0.7,
        gt=0,
        le=1,
        description="Rows with one answer whose word-bigram Jaccard similarity (0 to 1) reaches this are near "
        "duplicates.",
    )
    max_tokens: int | None = Field(
        None, ge=16, description="Longest row allowed with its chat template, tokens of the base model; null: any."
    )
    seed: int = Field(17, description="Seed of every random choice in the data half.")
    license: str | None = Field(
        None,
        description="SPDX licence of your data, for the data card; null: that of the default corpus, else `not "
        "stated`.",
    )


class EarlierData(Section):
    """The dataset whose test rows stay test rows."""

    path: str = Field(description="Absolute path of the artifact.")
    digest: str = Field(description="Its digest.")

    def key_document(self) -> dict[str, Any]:
        """The digest: a store may move."""
        return {"digest": self.digest}
