"""Eager or compiled, and why; that the bytes are the same is shown in tests/flow/test_formats.py and
test_compiled.py."""

import shutil
import subprocess
import sys

import pytest
import torch

from slipway.quantization import compiled
from slipway.quantization.compiled import WORTH_COMPILING, Kernels
from slipway.quantization.formats import FORMATS

CPU = torch.device("cpu")


def test_a_small_model_is_not_compiled_unless_asked():
    assert (Kernels(CPU, "auto", 1000).compiled, Kernels(CPU, "auto", 1000).why) == (False, "eager: small model")
    assert (Kernels(CPU, "off", 10**12).compiled, Kernels(CPU, "off", 10**12).why) == (False, "eager: as asked")


@pytest.mark.parametrize("mode, nbytes", [("on", 0), ("auto", WORTH_COMPILING)])
def test_without_a_compiler_it_runs_eagerly_and_says_so(monkeypatch, mode, nbytes):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    kernels = Kernels(CPU, mode, nbytes)
    assert not kernels.compiled and kernels.why == "eager: no C++ compiler (g++ or clang++)"


@pytest.mark.parametrize("mode, nbytes", [("on", 0), ("auto", WORTH_COMPILING)])
def test_with_one_it_compiles(monkeypatch, mode, nbytes):
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name == "clang++" else None)
    assert (Kernels(CPU, mode, nbytes).compiled, Kernels(CPU, mode, nbytes).why) == (True, "compiled")


@pytest.mark.skipif(compiled.compiler() is None, reason="needs a C++ compiler")
def test_on_a_cpu_the_merge_and_nvfp4_are_loops_of_our_own(monkeypatch):
    monkeypatch.setattr(compiled, "_compile", lambda *_: pytest.fail("torch's compiler, which takes seconds to load"))
    kernels, weight = Kernels(CPU, "on", 0), torch.randn(4, 32).to(torch.bfloat16)
    assert kernels.merge() is not None
    encoded = kernels(FORMATS["nvfp4a16"].encode)(weight, torch.tensor(0.01))
    assert torch.equal(encoded["weight"], FORMATS["nvfp4a16"].encode(weight, torch.tensor(0.01))["weight"])
    assert Kernels(CPU, "off", 0).merge() is None


def test_without_those_loops_torch_compiles(monkeypatch):
    monkeypatch.setattr(compiled, "nvfp4_kernel", lambda: None)
    monkeypatch.setattr(compiled, "_compile", lambda function, device: (function, device))
    encode = FORMATS["nvfp4"].encode
    assert Kernels(CPU, "on", 0)(encode) == (encode, "cpu")


def test_eager_is_the_function_itself():
    assert Kernels(CPU, "off", 0)(torch.add) is torch.add


def plus_one(x, out):
    out.copy_(x + 1)
    return x * 2


@pytest.mark.parametrize("wrong", ["result", "argument", None])
def test_compiled_code_that_gives_other_bits_is_not_used(monkeypatch, wrong):
    def rounding_otherwise(x, out):
        out.copy_(x + (1.5 if wrong == "argument" else 1))
        return x * (2 if wrong != "result" else 2.0000002)

    monkeypatch.setattr(compiled, "_compile", lambda *_: rounding_otherwise)
    kernels = Kernels(CPU, "on", 0)
    kernels.try_out(plus_one, [torch.ones(3), torch.zeros(3)])
    assert kernels.compiled is (wrong is None)
    assert wrong is None or (
        kernels(plus_one) is plus_one and kernels.why == "eager: compiled plus_one rounds otherwise here"
    )


def test_code_that_torch_cannot_compile_runs_eagerly(monkeypatch):
    def broken(*_):
        raise RuntimeError("CppCompileError: main.cpp")

    monkeypatch.setattr(compiled, "_compile", lambda *_: broken)
    asked = Kernels(CPU, "on", 0)
    asked.try_out(plus_one, [torch.ones(3), torch.zeros(3)])
    assert asked(plus_one) is plus_one and asked.why == "eager: torch cannot compile plus_one here"


def test_an_error_of_the_eager_run_is_not_hidden(monkeypatch):
    monkeypatch.setattr(compiled, "_compile", lambda function, _: function)
    with pytest.raises(RuntimeError, match="size"):
        Kernels(CPU, "on", 0).try_out(plus_one, [torch.ones(3), torch.zeros(2)])


def test_whether_a_gpu_can_compile_is_asked_in_a_process_that_imported_torch_alone():
    code = (
        "import torch, importlib.util; from slipway.quantization.compiled import _missing_compiler; "
        "missing = _missing_compiler(torch.device('cuda')); "
        "print(missing if importlib.util.find_spec('triton') is None else missing in (None, 'Triton'))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) in ((0, "Triton"), (0, "True")), done.stderr
