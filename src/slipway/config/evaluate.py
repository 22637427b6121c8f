"""Section `evaluate`: what is measured of a served model. Metrics and tasks: docs/metrics.md."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from slipway.config.base import InputFile, Section, born, check_authority
from slipway.system.redact import has_credentials

Auto = Literal["auto"]


def _pattern(value: str) -> str:
    """A regular expression of Python's."""
    try:
        re.compile(value)
    except (re.error, RecursionError, OverflowError) as err:
        raise PydanticCustomError("pattern", f"a regular expression: {str(err)[:100]}".replace("{", "(")) from err
    return value


def _endpoint(value: str) -> str:
    """An http(s) URL without credentials."""
    scheme, _, rest = value.partition("://")
    if scheme not in ("http", "https") or not rest:
        raise PydanticCustomError("url", "a URL that starts with http:// or https://")
    if has_credentials(value) or "@" in rest.split("/", 1)[0]:
        raise PydanticCustomError("url", "a URL without credentials: name the key's variable in judge.key_variable")
    check_authority(rest.split("/", 1)[0])
    return value


class JudgeConfig(Section):
    """A model that compares answers, behind any OpenAI-compatible endpoint."""

    url: Annotated[str, AfterValidator(_endpoint)] = Field(description="Base of its API, as https://host/v1.")
    model: str = Field(min_length=1, description="Its name there.")
    key_variable: str | None = Field(
        None, pattern="^[A-Za-z_][A-Za-z0-9_]*$", description="Environment variable that holds the API key; null: none."
    )
    prompt: InputFile | None = Field(
        None, description="Text file with the places {request}, {a} and {b}; null: the shipped prompt."
    )
    max_tokens: int = Field(512, ge=1, description="Longest verdict with its reason, tokens.")
    timeout_s: float = Field(120, gt=0, description="Longest wait for one verdict, seconds.")


class EvaluateConfig(Section):
    """Quality and speed of a served model."""

    task: Annotated[Literal["auto", "json", "tools", "label", "number", "text"], born("json")] = Field(
        "auto", description="What the answers are, which decides the metrics; auto: by the training answers, and said."
    )
    metrics: Annotated[list[Annotated[str, Field(min_length=1)]] | None, born(None)] = Field(
        None, min_length=1, description="Metrics measured, the first is the primary one; null: those of the task."
    )
    ignore_case: Annotated[bool, born(False)] = Field(False, description="Whether texts are compared without case.")
    ignore_punctuation: Annotated[bool, born(False)] = Field(
        False, description="Whether texts are compared without punctuation."
    )
    pattern: Annotated[Annotated[str, AfterValidator(_pattern)] | None, born(None)] = Field(
        None, description="Regular expression of metric `regex`; its last match in answer and reference must agree."
    )
    json_schema: Annotated[InputFile | None, born(None)] = Field(
        None, description="File with a JSON Schema that metric `json_valid` checks answers against; null: any JSON."
    )
    absolute_tolerance: Annotated[float, born(0.0)] = Field(
        0.0, ge=0, allow_inf_nan=False, description="Metric `numeric`: largest distance from the reference."
    )
    relative_tolerance: Annotated[float, born(0.0)] = Field(
        0.0, ge=0, allow_inf_nan=False, description="Metric `numeric`: largest distance as a share of the reference."
    )
    judge: Annotated[JudgeConfig | None, born(None)] = Field(None, description="The judge of metric `judge`.")
    max_items: int | None = Field(None, ge=1, description="Test items scored, taken evenly over labels; null: all.")
    max_new_tokens: Annotated[int, Field(ge=1)] | Auto = Field(
        "auto", description="Longest answer, tokens; auto: the longest reference answer of the data and a quarter more."
    )
    concurrency: list[Annotated[int, Field(ge=1)]] = Field(
        [1, 4], min_length=1, description="Concurrent requests of the speed runs."
    )
    speed_requests: int = Field(
        40,
        ge=4,
        description="Requests per speed run, fewer at one caller once they suffice; a p95 is shown from 100 on, a p99 "
        "from 300.",
    )
    timeout_s: float = Field(120, gt=0, description="Longest wait for one answer, seconds.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Level of the confidence intervals.")
    reference: Annotated[Literal["served", "streamed", "both", "auto"], born("served")] = Field(
        "auto",
        description="How the unquantized merge is measured. `served`: answers of an engine; `streamed`: log-likelihood "
        "of the reference answers, KL and token agreement, layer by layer in bounded memory; `auto`: served where it "
        "fits this machine, streamed where not and for free text.",
    )
    reference_memory_gb: Annotated[float, born(2.0)] = Field(
        2.0, gt=0, description="Hidden states that the streamed reference holds, GB; more rows take more passes."
    )
    probe_items: Annotated[int, born(0)] = Field(
        12, ge=0, description="Test rows whose answers are recorded for the probe of a promoted engine; 0: no record."
    )
    probe_tokens: Annotated[int, born(384)] = Field(
        384, ge=1, description="Tokens of each long answer recorded for it, at most half of the context."
    )
