"""What a section of the config must refuse and accept, and how many bounds its fields declare."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal, get_args, get_origin

import annotated_types as bounds
import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from slipway.config.load import parse
from slipway.errors import ConfigError

_BOUNDS = (bounds.Ge, bounds.Gt, bounds.Le, bounds.Lt, bounds.MinLen, bounds.MaxLen)
# Key below the section, a value just outside of a bound, and one that lies on the bound or just inside
Bound = tuple[str, Any, Any]


def document(section: str, key: str, value: Any) -> dict[str, Any]:
    """A config that sets one key, dots lead into sections below."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return {section: value}


def refusal(section: str, key: str, value: Any) -> str:
    """The message with which a value of a key is refused; fails when it is accepted."""
    with pytest.raises(ConfigError) as refused:
        parse(document(section, key, value), "a test")
    return str(refused.value)


def assert_bound(section: str, bound: Bound) -> None:
    """The value outside is refused by the key's name, the value inside is what the config holds then."""
    key, outside, inside = bound
    message = refusal(section, key, outside)
    assert message.startswith(f"config key {section}.{key}"), message
    value: Any = getattr(parse(document(section, key, inside), "a test"), section)
    for part in key.split("."):
        value = getattr(value, part)
    assert (list(value) if isinstance(value, tuple) else value) == inside


def assert_near_key(section: str, key: str, near: str) -> None:
    """A key that the section does not know is refused, and the nearest one that it knows is named."""
    message = refusal(section, key, 1)
    assert message.startswith(f"config key {section}.{key}: unknown"), message
    assert message.endswith(f"did you mean {near}?"), message


def assert_every_bound_is_listed(model: type[BaseModel], listed: list[Bound]) -> None:
    """`listed` has a value for every limit and every closed set of values that the section's fields declare."""
    missing = declared(model) - Counter(key for key, _, _ in listed)
    assert not missing, f"no value outside of these bounds is tried: {dict(missing)}"


def declared(model: type[BaseModel]) -> Counter[str]:
    """Key -> how many bounds its field declares, those of its items included; a closed set of values is one bound."""
    counts: Counter[str] = Counter()
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            counts.update({f"{name}.{key}": n for key, n in declared(field.annotation).items()})
        else:
            counts[name] = _count(field.annotation) + sum(isinstance(mark, _BOUNDS) for mark in field.metadata)
    return +counts


def _count(annotation: Any) -> int:
    if get_origin(annotation) is Literal:
        return 1
    marks = [
        m for item in getattr(annotation, "__metadata__", ()) if isinstance(item, FieldInfo) for m in item.metadata
    ]
    below = {str(argument): argument for argument in get_args(annotation)}  # a pair of ports declares its bounds once
    return sum(isinstance(mark, _BOUNDS) for mark in marks) + sum(map(_count, below.values()))
