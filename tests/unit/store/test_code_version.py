"""The code version: it sees every statement that a stage reaches, and no prose."""

import ast
import functools
import shutil
import textwrap

import pytest

from slipway.errors import SlipwayError
from slipway.pipeline.stage import STAGES, stage_spec
from slipway.store import code_version
from slipway.store.code_version import ROOT, code_digest, module_digests, reached, source_file


def digest(root, *modules, **more):
    """The digest as a fresh process would compute it."""
    reached.cache_clear()
    code_digest.cache_clear()
    return code_digest(*modules, root=root, **more)


@pytest.fixture
def package(tmp_path):
    """`write({"a.py": source, ...})` makes a package called slipway and returns its directory."""

    def write(files):
        root = tmp_path / "slipway"
        for name, text in {"__init__.py": '"""The package."""\n__version__ = "1"\n', **files}.items():
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(text))
        return root

    return write


@pytest.fixture(scope="module")
def only_copy(tmp_path_factory):
    """One for all stages: copying the package once a test took more time than reading it."""
    return shutil.copytree(ROOT, tmp_path_factory.mktemp("copy") / "slipway", ignore=shutil.ignore_patterns("*.pyc"))


ANALYSE = functools.cache(code_version.analyse)  # by the text: most modules are reached by many stages


@pytest.fixture
def root(only_copy, monkeypatch):
    """A copy of the package whose modules a test may write over: afterwards each is as it was."""
    monkeypatch.setattr(code_version, "analyse", ANALYSE)
    yield only_copy
    for source in ROOT.rglob("*.py"):
        file = only_copy / source.relative_to(ROOT)
        if file.read_bytes() != source.read_bytes():
            file.write_bytes(source.read_bytes())


@pytest.mark.parametrize("stage", STAGES)
def test_one_statement_more_in_any_module_that_a_stage_reaches_changes_its_version(root, monkeypatch, stage):
    monkeypatch.setattr(code_version, "_file", functools.cache(code_version._file))  # contents change, no file comes
    spec = stage_spec(stage)
    before = digest(root, *spec.code, without=spec.code_without)
    assert before == spec.code_version()
    modules = reached(*spec.code, without=spec.code_without, root=root)
    assert set(spec.code) < set(modules)
    own = module_digests(*spec.code, without=spec.code_without, root=root)
    texts = {module: source_file(module, root).read_text() for module in modules}
    for module, text in texts.items():
        source_file(module, root).write_text(text + "\n_one_statement_more = 1\n")
    reached.cache_clear()
    changed = module_digests(*spec.code, without=spec.code_without, root=root)
    assert [module for module in modules if changed[module] == own[module]] == []
    for module in modules[:-1]:  # of one module's alone the version changes with it
        source_file(module, root).write_text(texts[module])
    assert digest(root, *spec.code, without=spec.code_without) != before


def test_what_the_stages_reach_is_what_importing_them_would_run():
    """Names that an older resolution missed: a module in a room, one in a sub-room, one imported inside a function."""
    assert {"weights.lora", "weights", "streaming.export", "quantization.gptq", "errors"} <= set(
        reached("stages.merge")
    )
    assert {"engines.llamacpp.build", "engines.llamacpp"} <= set(reached("stages.engine"))
    assert "data.tokens" in reached("stages.prepare")
    of_config = {m for stage in STAGES for m in reached(*stage_spec(stage).code) if m.startswith("config")}
    assert of_config == {"config.gate_kinds", "config.gate_rows"}, "code; sections are values, which the key holds"
    assert not [m for stage in STAGES for m in reached(*stage_spec(stage).code) if m == "pipeline.ensure"]


def test_a_training_in_a_container_depends_on_its_recipe_and_not_on_who_runs_it():
    spec = stage_spec("train_nemo")
    modules = reached(*spec.code, without=spec.code_without)
    assert {"training.nemo.recipe", "training.nemo.steps"} <= set(modules)
    assert not [m for m in modules if m.startswith(("runners", "errors", "system"))]


PLAIN = """
    import os

    LIMIT = 3

    class Box:
        size = 1

        def grow(self, by):
            return self.size + by
    """
WORDY = '''
    """A module with much to say."""

    # a comment
    import os

    LIMIT = (
        3
    )
    """What LIMIT is for."""


    class Box:
        """A box."""

        size = 1  # in metres

        def grow(self, by):
            """Make it larger."""
            return (self.size
                    + by)
    '''


def test_prose_and_layout_change_nothing(package):
    assert digest(package({"a.py": PLAIN}), "a") == digest(package({"a.py": WORDY}), "a")


@functools.cache
def with_another_docstring(text):
    """The same code without comments and in another layout; as it is where there is no docstring."""
    tree = ast.parse(text)
    if not ast.get_docstring(tree):
        return text
    tree.body[0] = ast.Expr(ast.Constant("Another sentence."))
    return ast.unparse(ast.fix_missing_locations(tree))


@pytest.mark.parametrize("stage", STAGES)
def test_a_comment_in_errors_and_a_docstring_in_every_module_change_no_version(root, stage):
    spec = stage_spec(stage)
    reached.cache_clear()  # of this folder other tests asked with other contents
    code_digest.cache_clear()
    (root / "errors.py").write_text("# a comment\n" + (root / "errors.py").read_text())
    for module in reached(*spec.code, without=spec.code_without, root=root):
        file = source_file(module, root)
        if module != "errors":
            file.write_text(with_another_docstring(file.read_text()))
    assert digest(root, *spec.code, without=spec.code_without) == spec.code_version()


@pytest.mark.parametrize(
    "change",
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("LIMIT = 3", "LIMIT = 3.0"),
        ("LIMIT = 3", "LIMIT = '3'"),
        ("LIMIT = 3", "LIMIT = None"),
        ("import os", "import sys"),
        ("+ by", "- by"),
        ("(self, by)", "(self, by=1)"),
        ("size = 1", "size: int = 1"),
        ("class Box", "class Crate"),
        ("return self.size + by", "return"),
    ],
)
def test_every_change_of_code_counts(package, change):
    assert digest(package({"a.py": PLAIN}), "a") != digest(package({"a.py": PLAIN.replace(*change)}), "a")


def test_a_module_that_reads_its_docstrings_keeps_them(package):
    text = '"""One."""\nHELP = __doc__\n'
    assert digest(package({"a.py": text}), "a") != digest(package({"a.py": text.replace("One", "Two")}), "a")


def test_every_kind_of_import_is_followed(package):
    files = {
        "a/__init__.py": "",
        "a/b/__init__.py": "",
        "a/b/top.py": """
            import slipway.one
            from slipway import two, __version__
            from slipway.a import three
            from slipway.a.b.four import *
            from . import five
            from .six import name
            from ..seven import name
            from ... import eight
            import importlib

            def late():
                from slipway import nine
                importlib.import_module("slipway.ten")
                importlib.import_module("json")
                return ["python", "-m", "slipway.eleven"], "slipway.not_a_module"
            """,
        **{f"{m}.py": "name = 1" for m in ("one", "two", "eight", "nine", "ten", "eleven")},
        **{f"a/{m}.py": "name = 1" for m in ("three", "seven")},
        **{f"a/b/{m}.py": "name = 1" for m in ("four", "five", "six")},
        "unused.py": "",
        "config/__init__.py": "",
    }
    modules = set(reached("a.b.top", root=package(files)))
    assert modules == {
        "a.b.top",
        "a",
        "a.b",
        "one",
        "two",
        "__init__",
        "a.three",
        "a.b.four",
        "a.b.five",
        "a.b.six",
        "a.seven",
        "eight",
        "nine",
        "ten",
        "eleven",
    }


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("from slipway.room import gone", "import slipway.room"),
        ("from slipway.room.gone import x", "import slipway.room.gone"),
        ("import slipway.gone", "import slipway.gone"),
        ("from .gone import x", "import slipway.gone"),
        ("def f():\n    from slipway import gone", "import.*slipway.gone"),
        ("import importlib\nimportlib.import_module('slipway.gone')", "import slipway.gone"),
    ],
)
def test_an_import_without_a_file_is_refused(package, source, words):
    with pytest.raises(SlipwayError, match=rf"(?s){words}.*reinstall slipway"):
        reached("a", root=package({"a.py": source}))


def test_a_name_that_a_package_does_not_define_is_refused(package):
    with pytest.raises(SlipwayError, match=r"imports slipway\.room\.gone.*no such name"):
        reached("a", root=package({"a.py": "from slipway.room import gone", "room/__init__.py": '"""A room."""'}))


@pytest.mark.parametrize(
    "source",
    [
        "import importlib\nimportlib.import_module(f'slipway.{1}')",
        "from importlib import import_module\nimport_module(name)",
        "from importlib import import_module as load\nload('slipway.x')",
        "import importlib\nimportlib.import_module('.x', 'slipway')",
        "load = __import__",
        "__import__(name)",
        "exec(text)",
        "eval(text)",
        "import runpy\nrunpy.run_path('x.py')",
        "from importlib.util import spec_from_file_location",
        "loader.exec_module(m)",
        "from ... import x",
    ],
)
def test_code_that_is_loaded_another_way_is_refused_with_its_place(package, source):
    with pytest.raises(SlipwayError, match=r"code that slipway/a\.py loads"):
        reached("a", root=package({"a.py": source}))


def test_a_method_called_eval_is_no_loader(package):
    assert reached("a", root=package({"a.py": "model.eval()"})) == ("a",)


def test_the_digest_is_the_same_on_every_python(package):
    """Computed on 3.11, 3.12 and 3.13: `type_params` and other fields that those added are empty here and left out."""
    source = '''
        from dataclasses import dataclass

        @dataclass(frozen=True)
        class Point(Base, metaclass=Meta):
            x: int = 0

            async def move(self, *args: int, by: float = 1e-3, **kw) -> "Point":
                """Doc."""
                async with lock as held, other:
                    yield {**kw, "a": [i async for i in args if i], b"\\x00": ..., 1j: -0.0}
                return f"{self.x!r:>{by}} and {by=}" "tail"

        def choose(a, /, b, *, c=None):
            match a:
                case {"k": [1, *rest], **more} if (n := b):
                    return lambda: (yield n)
                case Point(x=0) | None:
                    pass
            try:
                del a[1:2, ...]
            except* ValueError as err:
                raise err from None
            else:
                global G
            finally:
                assert c, "no"
        '''
    assert digest(package({"a.py": source}), "a") == "72e6c024b16e982282f666d52927e262e314564593ace51e6d16f3517c67b987"


def test_the_root_is_the_package_that_runs():
    assert (ROOT / "store/code_version.py").samefile(code_version.__file__)


def test_the_cpp_beside_a_module_counts_but_for_comments_and_layout(package):
    root = package({"a.py": "x = 1\n", "a.cpp": "int f(int x) { return x; }  // identity\n", "b.cpp": "int g();\n"})
    first = digest(root, "a")
    (root / "a.cpp").write_text("// the identity\nint f(int x)\n{ return x; }\n")
    assert digest(root, "a") == first
    (root / "b.cpp").write_text("int h();\n")  # no module of that name is reached
    assert digest(root, "a") == first
    (root / "a.cpp").write_text("int f(int x) { return x + 1; }\n")
    assert digest(root, "a") != first
    (root / "a.cpp").unlink()
    assert digest(root, "a") != first


def test_the_loops_of_the_merge_and_of_nvfp4_are_part_of_what_quantizes():
    reach = reached(*stage_spec("quantize").code)
    sources = [name for name in reach if ROOT.joinpath(*name.split(".")).with_suffix(".cpp").is_file()]
    assert sources == ["quantization.nvfp4_kernel", "weights.merge_kernel"]
