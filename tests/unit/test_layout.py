"""The rooms: what may stand where, and what the orchestrator's process may load."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from scripts.house import FOLDERS, prose_names, rooms, undocumented
from tests.conftest import LONGEST as LONGEST_TEST_FILES

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src/slipway"
LONGEST, SHORTEST = 300, 30
# A module outside these lengths says why in its docstring, in a sentence that begins so
REASONS = ("One file because", "Short because")
# Modules whose test file is not tests/unit/<room>/test_<module>.py: the file that covers them, each for its reason
TESTED_ELSEWHERE = {
    "agent/haproxy/address.py": "tests/lab/deployment/test_haproxy.py",  # needs HAProxy
    "agent/haproxy/process.py": "tests/lab/deployment/test_haproxy.py",  # needs HAProxy
    "cli/chat_page.py": "tests/lab/rag/test_chat.py",  # needs NiceGUI
    "ops/prefect_plugin.py": "tests/lab/deployment/test_prefect_deployment.py",  # needs Prefect's server and worker
    "ops/servers.py": "tests/lab/deployment/test_prefect_deployment.py",  # is the servers
    "training/tuning/probe_recipe.py": "tests/lab/training/test_tune.py",  # needs NeMo AutoModel
}
COMPUTING = ("weights", "quantization", "calibration", "streaming", "training", "rag", "stages")
ARRAYS_OF_ROWS = (
    "earlier_rows",
    "card", "clean", "groups", "holdout", "near_duplicates", "preparation", "row_table", "shingles", "split"
)  # fmt: skip
HEAVY_ELSEWHERE = {
    "data": {  # loaded by stages only; rows by the million are columns of arrays
        "data/tokens.py": {"transformers"},
        **{f"data/{name}.py": {"numpy"} for name in ARRAYS_OF_ROWS},
    },
    "evaluation": {"evaluation/bootstrap.py": {"numpy"}},  # loaded by stages only
    "ops": {"ops/prefect_plugin.py": {"prefect"}},  # loaded by Prefect
}
HEAVY = ("torch", "transformers", "peft", "bitsandbytes", "prefect", "mlflow")


def test_the_mlflow_folder_holds_no_python() -> None:
    files = [p for p in (ROOT / "mlflow").rglob("*") if p.is_file()]
    assert files
    assert [p for p in files if p.suffix == ".py"] == []


def test_no_module_at_the_root_shadows_a_library() -> None:
    """A top-level module or package of ours named like an installed distribution's would be imported in its place."""
    installed = set(importlib.metadata.packages_distributions()) | set(sys.stdlib_module_names)
    ours = {p.parent.name for p in ROOT.glob("*/__init__.py")} | {p.stem for p in ROOT.glob("*.py")}
    # Prefect puts a flow's folder on the path
    ours |= {p.stem for p in (ROOT / "flows").glob("*.py") if p.stem != "__init__"}
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
    source = SOURCE
    assert {p.name for p in source.iterdir() if p.is_file()} == {"__init__.py", "__main__.py", "errors.py", "py.typed"}
    rooms = {p.parent for p in source.rglob("*.py")} - {source}
    sentences = {str(room.relative_to(source)): ast.parse((room / "__init__.py").read_text()).body for room in rooms}
    assert {
        name: len(body) for name, body in sentences.items() if not (len(body) == 1 and isinstance(body[0], ast.Expr))
    } == {}
    assert [name for name in sentences if name.count("/") > 1] == []


def test_stage_tasks_stay_small() -> None:
    shared = {"run", "stage_task", "prefect_ui", "promote", "dvc_repro", "pipeline", "provenance", "health"}
    shared |= {"asking", "decide", "rivals", "failures", "superseded", "takeover", "data_version", "watch", "notify"}
    shared |= {"retrieval"}
    lengths = {p.name: len(p.read_text().splitlines()) for p in (ROOT / "tasks").glob("*.py") if p.stem not in shared}
    assert {name: n for name, n in lengths.items() if n > 45} == {}


def test_the_orchestrator_needs_no_torch() -> None:
    """Every slipway module that tasks and flows import at their top, imported alone in a fresh process."""
    modules = sorted(
        {m for room in ("tasks", "flows") for p in (ROOT / room).rglob("*.py") for m in _slipway_imports(p)}
    )
    assert "slipway.pipeline.ensure" in modules
    code = (
        f"import sys, json, importlib\nfor m in {modules!r}: importlib.import_module(m)\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) & set(HEAVY) == set()


@pytest.mark.parametrize("room", sorted(p.parent.name for p in SOURCE.glob("*/__init__.py")))
def test_torch_is_imported_in_rooms_that_compute(room: str) -> None:
    """At the top of a module: what a function imports costs when it is called."""
    tops = {
        str(p.relative_to(SOURCE)): {name.split(".")[0] for name in _top_imports(p)} & {*HEAVY, "safetensors", "numpy"}
        for p in (SOURCE / room).rglob("*.py")
    }
    assert {name: heavy for name, heavy in tops.items() if heavy and room not in COMPUTING} == HEAVY_ELSEWHERE.get(
        room, {}
    )
    assert all(heavy.isdisjoint({"mlflow"}) for heavy in tops.values())


def test_every_module_has_its_test_file() -> None:
    """`tests/unit/<room>/test_<module>.py`; what needs more than this machine's Python is named with its own file."""
    modules = {str(p.relative_to(SOURCE)) for p in SOURCE.rglob("*.py") if p.stem not in ("__init__", "__main__")}
    without = {m for m in modules if not (ROOT / "tests/unit" / Path(m).with_name(f"test_{Path(m).name}")).is_file()}
    assert sorted(without - set(TESTED_ELSEWHERE)) == []
    assert [file for file in TESTED_ELSEWHERE.values() if not (ROOT / file).is_file()] == []
    assert sorted(set(TESTED_ELSEWHERE) - without) == [], "these have a test file of their name"


def test_every_unit_test_file_lies_beside_a_module_of_its_name() -> None:
    units = [p.relative_to(ROOT / "tests/unit") for p in (ROOT / "tests/unit").glob("*/**/test_*.py")]
    homes = {"scripts": ROOT / "scripts", "tasks": ROOT / "tasks", "flows": ROOT / "flows"}
    named = {p: homes.get(p.parts[0], SOURCE / p.parts[0]).joinpath(*p.parts[1:-1]) for p in units}
    strays = [
        str(p) for p, home in named.items() if not any((home / f"{p.stem[5:]}{end}").exists() for end in (".py", ""))
    ]
    assert strays == []


@pytest.mark.parametrize("room", [name for name in rooms() if name not in FOLDERS])
def test_every_public_name_has_a_docstring(room: str) -> None:
    assert [name for file in rooms()[room] for name in undocumented(file)] == []


@pytest.mark.parametrize("room", list(rooms()))
def test_identifiers_are_nouns_and_verbs_of_the_field(room: str) -> None:
    """`found`, `told`, `said` and the like name the way a value came about; its name should say what it is."""
    assert [name for file in rooms()[room] for name in prose_names(file)] == []


def test_modules_are_neither_long_nor_short_without_a_reason() -> None:
    unusual = {}
    for file in SOURCE.rglob("*.py"):
        lines = len(file.read_text().splitlines())
        if file.stem not in ("__init__", "__main__") and not SHORTEST <= lines <= LONGEST:
            docstring = " ".join((ast.get_docstring(ast.parse(file.read_text())) or "").split())
            if not any(reason in docstring for reason in REASONS):
                unusual[str(file.relative_to(SOURCE))] = lines
    assert unusual == {}


def test_the_test_files_that_begin_first_exist() -> None:
    assert [name for name in LONGEST_TEST_FILES if not (ROOT / name).is_file()] == []


def test_prefect_files_agree_with_the_services() -> None:
    from slipway.ops.prefect_api import DEPLOYMENT, POOL

    deployments = {row["name"]: row for row in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}
    assert {DEPLOYMENT, "promote", "retrain-on-data", "look-for-data", "watch"} <= set(deployments)
    assert {"slug", "cron", "timezone"} <= set(deployments[DEPLOYMENT]["schedules"][0])
    for deployment in deployments.values():
        assert deployment["work_pool"]["name"] == POOL
        path, function = deployment["entrypoint"].split(":")
        assert f"def {function}(" in (ROOT / path).read_text()


def _slipway_imports(file: Path) -> list[str]:
    """Modules of slipway that a file imports at its top."""
    return [name for name in _top_imports(file) if name.startswith("slipway.")]


def _top_imports(file: Path) -> list[str]:
    """Modules that a file imports at its top, by their dotted names."""
    names: list[str] = []
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module == "slipway":
            names += [f"slipway.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return names
