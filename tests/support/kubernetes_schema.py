"""What is wrong with a manifest, by the real schemas: Kubernetes' own of a version, and those of CRDs that we render.

CRDs' schemas are in tests/contracts/kubernetes, cut to the fields that a release may set; their CEL rules are not
evaluated. An API server drops fields that a CRD does not know without a word, so here an unknown field is an error.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate

CONTRACTS = Path(__file__).parents[1] / "contracts" / "kubernetes"
CRDS = {"InferenceService": "inferenceservice", "ServingRuntime": "servingruntime", "HTTPRoute": "httproute"}


def problems(manifest: dict[str, Any], version: str) -> list[str]:
    """Every fault that the schemas see, none for a manifest that an API server of `version` would take."""
    if manifest["kind"] in CRDS:
        schema = crd_schema(CRDS[manifest["kind"]])
        return [
            f"{'.'.join(map(str, error.absolute_path))}: {error.message[:300]}"
            for error in jsonschema.Draft7Validator(schema).iter_errors(manifest)
        ]
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as err:
        return [f"{'.'.join(map(str, err.path))}: {err.message[:300]}"]
    return []


@cache
def crd_schema(name: str) -> dict[str, Any]:
    """The schema of a contract, closed against unknown fields."""
    document = json.loads((CONTRACTS / f"{name}.json").read_text(encoding="utf-8"))
    closed: dict[str, Any] = _closed(document["schema"])
    return closed


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: _closed(value) for key, value in schema.items()}
    open_ended = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict) and not open_ended:
        out["additionalProperties"] = False
    return out
