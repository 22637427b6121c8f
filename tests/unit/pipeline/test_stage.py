"""What every stage says of itself, and what the key of a call covers."""

import ast
import dataclasses
from pathlib import Path

import pytest

import slipway.stages
from slipway.config.base import Section
from slipway.config.load import load_config
from slipway.config.merge import MergeConfig
from slipway.errors import ConfigError
from slipway.pipeline.stage import STAGES, StageCall, stage_spec
from slipway.store.artifacts import Checkpoint
from slipway.store.code_version import reached, source_file
from slipway.store.key import key_of

CALL = StageCall("merge", {"base": Checkpoint(uri="/a", digest="d1")}, MergeConfig())


def key(**change):
    return key_of(dataclasses.replace(CALL, **change).key_document())


def test_the_key_covers_stage_inputs_params_and_extra_and_not_where_things_lie():
    assert key() == key(inputs={"base": Checkpoint(uri="/elsewhere", digest="d1")}, label="again", stop_s=99)
    others = [
        key(inputs={"base": Checkpoint(uri="/a", digest="d2")}),
        key(inputs={"base": None}),
        key(params=MergeConfig(materialize=True)),
        key(extra={"cpu": "y"}),
        key(stage="quantize"),
    ]
    assert len({key(), *others}) == 6


def test_every_stage_says_its_output_inputs_and_params():
    for name in STAGES:
        spec = stage_spec(name)
        assert spec.output.kind
        assert issubclass(spec.params, Section)
    assert {p.stem for p in Path(slipway.stages.__path__[0]).glob("*.py")} - {"__init__"} == set(STAGES)


def test_an_unknown_stage_is_named():
    with pytest.raises(ConfigError, match="stage: bake; expected one of fetch"):
        stage_spec("bake")


# Whose params need more than the config: rows, what an earlier stage made, which of several strategies or retrievers
MORE = {"evaluate", "prepare", "corpus", "chunk", "index", "choose", "answer_eval"}


@pytest.mark.parametrize("name", [name for name in STAGES if name not in MORE])
def test_params_of_gives_what_the_stage_takes(name):
    module = __import__(f"slipway.stages.{name}", fromlist=[name])
    assert isinstance(module.params_of(load_config()), stage_spec(name).params)


def test_no_stage_reaches_the_whole_config_but_for_its_type():
    """`config.load` would tie a stage to every section; what is imported of a section is a model, not code beside
    one. A module of the config without a section is code, and counts as such."""
    for name in STAGES:
        modules = reached(*stage_spec(name).code)
        for module in modules:
            tree = ast.parse(source_file(module).read_text())
            checked = [n for n in tree.body if isinstance(n, ast.If) and getattr(n.test, "id", "") == "TYPE_CHECKING"]
            for_types = {id(n) for block in checked for n in ast.walk(block)}
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("slipway.config"):
                    if id(node) in for_types:
                        continue
                    assert node.module != "slipway.config.load", module
                    if node.module.removeprefix("slipway.") in modules:
                        continue
                    section = __import__(node.module, fromlist=["x"])
                    names = [alias.name for alias in node.names if alias.name != "born"]  # a mark that the key holds
                    values = [getattr(section, name) for name in names]
                    assert all(isinstance(v, type) and issubclass(v, Section) for v in values), (module, node.lineno)
