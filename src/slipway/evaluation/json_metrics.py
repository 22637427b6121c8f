"""Metrics of JSON answers: equal values, validity, and the reading that they share.

Strict JSON (`data.strict_json`): no NaN, no key twice in one object, nothing before or after the value. Numbers are
equal by value whatever their spelling (1, 1.0, 10e-1), text by its characters, objects in any order of their keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway.data import strict_json
from slipway.errors import ConfigError
from slipway.evaluation.metric import Metric
from slipway.evaluation.scorer import Example, Scorer


def parse(text: str) -> tuple[bool, Any]:
    """Whether `text` is one JSON value, and that value."""
    try:
        return True, strict_json.parse(text)
    except ValueError:
        return False, None


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
        is_json, answer = parse(example.answer)
        try:
            return float(is_json and validator.is_valid(answer))
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
