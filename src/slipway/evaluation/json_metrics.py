"""Metrics of JSON answers: equal values, validity, and the reading that they share.

Strict JSON (RFC 8259): no NaN, no key twice in one object, nothing before or after the value. Numbers are equal by
value whatever their spelling (1, 1.0, 10e-1), text by its characters, objects whatever the order of their keys.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from slipway.errors import ConfigError
from slipway.evaluation.metric import Metric
from slipway.evaluation.scorer import Example, Scorer


class _NotJsonError(ValueError):
    """Text that Python's reader takes and JSON does not."""


def parse(text: str) -> tuple[bool, Any]:
    """Whether `text` is one JSON value, and that value with every number as int or Decimal."""
    try:
        value = json.loads(
            text, parse_float=Decimal, parse_constant=_no_constant, object_pairs_hook=_object, parse_int=_integer
        )
    except (ValueError, ArithmeticError, RecursionError):  # Decimal knows exponents of 18 digits
        return False, None
    return True, value


def equal(a: Any, b: Any) -> bool:
    """Whether two parsed values are the same; a truth value is no number."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


def exact() -> Scorer:
    """`json_exact`: the answer is JSON and equals the expected JSON."""
    return Scorer(Metric("json_exact", "exact JSON"), _score_exact)


def valid(schema: Mapping[str, Any] | None) -> Scorer:
    """`json_valid`: the answer is JSON, and fits `schema` (a JSON Schema of any draft) where one is given."""
    if schema is None:
        return Scorer(Metric("json_valid", "valid JSON"), lambda example: float(parse(example.answer)[0]))
    from jsonschema.validators import validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    validator = validator_for(schema)(schema, registry=Registry())  # the default one would fetch a $ref from the net

    def score(example: Example) -> float:
        is_json, _ = parse(example.answer)
        try:
            return float(is_json and validator.is_valid(json.loads(example.answer)))
        except ValueError:  # an integer of more digits than Python reads
            return 0.0
        except Unresolvable as err:
            raise ConfigError(
                "evaluate.json_schema", f"$ref {str(err)[:200]!r}", "a schema whole in itself", "put it into $defs"
            ) from err

    return Scorer(Metric("json_valid", "valid by JSON Schema"), score)


def _score_exact(example: Example) -> float | None:
    expected_is_json, expected = parse(example.expected)
    if not expected_is_json:
        return None
    is_json, answer = parse(example.answer)
    return float(is_json and equal(answer, expected))


def _integer(digits: str) -> int | Decimal:
    """Python refuses to read an integer of more than 4300 digits; a Decimal holds it."""
    return int(digits) if len(digits) < 4000 else Decimal(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    doc = dict(pairs)
    if len(doc) < len(pairs):
        raise _NotJsonError("a key stands twice in one object")
    return doc


def _no_constant(name: str) -> None:
    raise _NotJsonError(f"{name} is no JSON")
