"""The rooms: what may stand where, and what the orchestrator's process may load."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("src/slipway", "tasks", "flows", "scripts", "infra", "tests")
HEAVY = ("torch", "transformers", "peft", "bitsandbytes", "prefect", "mlflow")


def test_the_mlflow_folder_holds_no_python() -> None:
    files = [p for p in (ROOT / "mlflow").rglob("*") if p.is_file()]
    assert files
    assert [p for p in files if p.suffix == ".py"] == []


def test_no_module_at_the_root_shadows_a_library() -> None:
    """A top-level module or package of ours named like an installed distribution's would be imported in its place."""
    installed = set(importlib.metadata.packages_distributions()) | set(sys.stdlib_module_names)
    ours = {p.parent.name for p in ROOT.glob("*/__init__.py")} | {p.stem for p in ROOT.glob("*.py")}
    ours |= {
        p.stem for p in (ROOT / "flows").glob("*.py") if p.stem != "__init__"
    }  # Prefect puts a flow's folder on the path
    assert ours
    assert ours & (installed - {"slipway"}) == set()


def test_a_stage_has_one_stem_on_every_storey() -> None:
    """`train` is the one exception: one task, and a stage for each trainer."""
    stages = {p.stem for p in (ROOT / "src/slipway/stages").glob("*.py")} - {"__init__"}
    stems = {"train" if s in ("train_cpu", "train_nemo") else s for s in stages}
    assert {"train_cpu", "train_nemo", "merge"} <= stages
    assert [s for s in stems if not (ROOT / "tasks" / f"{s}.py").is_file()] == []
    rooms = ("tests/unit/stages", "tests/lab/engines")  # the stage `engine` needs the real engine
    assert [s for s in stages if not any((ROOT / r / f"test_{s}.py").is_file() for r in rooms)] == []


def test_every_module_lies_in_a_room_that_says_what_it_is_for() -> None:
    source = ROOT / "src/slipway"
    assert {p.name for p in source.iterdir() if p.is_file()} == {"__init__.py", "__main__.py", "errors.py", "py.typed"}
    rooms = {p.parent for p in source.rglob("*.py")} - {source}
    sentences = {str(room.relative_to(source)): ast.parse((room / "__init__.py").read_text()).body for room in rooms}
    assert {
        name: len(body) for name, body in sentences.items() if not (len(body) == 1 and isinstance(body[0], ast.Expr))
    } == {}
    assert [name for name in sentences if name.count("/") > 1] == []


def test_stage_tasks_stay_small() -> None:
    shared = {"run", "stage_task", "prefect_ui", "promote", "dvc_repro", "pipeline", "provenance", "health"}
    shared |= {"failures"}
    long = {
        p.name: n
        for p in (ROOT / "tasks").glob("*.py")
        if p.stem not in shared and (n := len(p.read_text().splitlines())) > 40
    }
    assert long == {}


def test_the_orchestrator_needs_no_torch() -> None:
    """Every slipway module that tasks and flows import at their top, imported alone in a fresh process."""
    modules = sorted(
        {m for room in ("tasks", "flows") for p in (ROOT / room).rglob("*.py") for m in _slipway_imports(p)}
    )
    assert "slipway.pipeline.ensure" in modules
    code = f"import sys, json, importlib\nfor m in {modules!r}: importlib.import_module(m)\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) & set(HEAVY) == set()


def test_prefect_files_agree_with_the_services() -> None:
    from slipway.ops.services import DEPLOYMENT, POOL

    (deployment,) = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert deployment["name"] == DEPLOYMENT
    assert deployment["work_pool"]["name"] == POOL
    assert {"slug", "cron", "timezone"} <= set(deployment["schedules"][0])
    path, function = deployment["entrypoint"].split(":")
    assert f"def {function}(" in (ROOT / path).read_text()


def _slipway_imports(file: Path) -> list[str]:
    found: list[str] = []
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module == "slipway":
            found += [f"slipway.{a.name}" for a in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("slipway."):
            found.append(node.module or "")
    return found
