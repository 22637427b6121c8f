"""Sections `deploy.routing` and `deploy.routed`: when a model is for a Spark or a datacenter DGX, and what was chosen.

The limits are rules of thumb for leaving a Spark: set them to what yours was measured to do."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from slipway.config.base import Section


class RoutingConfig(Section):
    """What `deploy.target: auto` chooses between, and by which limits."""

    spark: str = Field("spark", description="Row of conf/deploy, and of conf/targets, that is the Spark.")
    dgx: str = Field("dgx-slurm", description="Row of conf/deploy that is the datacenter DGX.")
    model_b: float = Field(120, gt=0, description="Largest model for a Spark, billions of parameters.")
    few_users: int = Field(5, ge=1, description="Requests at once that a Spark serves without a question.")
    many_users: int = Field(10, ge=1, description="Requests at once above which it is a DGX's; between: by its memory.")
    full_training_b: float = Field(30, gt=0, description="Largest model that a Spark fine-tunes whole, billions.")
    training_hours: float = Field(24, gt=0, description="Longest training on a Spark, hours.")

    @model_validator(mode="after")
    def _few_before_many(self) -> Self:
        if self.few_users > self.many_users:
            raise ValueError(f"deploy.routing.few_users={self.few_users} is above many_users={self.many_users}")
        return self


class RouteRule(Section):
    """One rule applied."""

    rule: str = Field(description="What it looks at.")
    value: str = Field(description="The figure, or why there is none.")
    threshold: str = Field(description="What it is held against.")
    says: Literal["spark", "dgx", "cannot tell"] = Field(description="Where it would send the model.")
    source: str = Field(description="Where the figure is from.")


class Route(Section):
    """What was chosen, by which rule; the others stay beside it."""

    target: str = Field(description="Row of conf/deploy that was chosen.")
    decided_by: str = Field(description="The rule that decided.")
    rules: tuple[RouteRule, ...] = Field(description="Every rule, applied.")
