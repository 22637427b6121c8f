"""The same network with and without what is put off: in processes of their own, since imports last."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pico import pico_model

ROOT = Path(__file__).resolve().parents[3]
PUT_OFF = {"torch._dynamo.convert_frame", "torch._inductor", "torch.distributed.tensor", "scipy", "scipy.optimize"}
INSTALL = "from slipway.system.deferred_imports import install; install()\n"
STEP = """
import hashlib, json, sys, torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], local_files_only=True)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
logits = model(torch.arange(24).reshape(2, 12)).logits
logits.square().mean().backward()
optimizer.step()
tensors = [logits.detach(), *model.state_dict().values()]
digest = hashlib.sha256(b"".join(t.float().numpy().tobytes() for t in tensors)).hexdigest()
"""
REPORT = "\nprint(json.dumps({'digest': digest, 'modules': sorted(sys.modules)}))"


def ran(code: str, *words: str) -> dict[str, object]:
    """What a fresh process that runs `code` prints last, as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", code, *words],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    document: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return document


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model") / "base"
    pico_model(folder)
    return str(folder)


def test_a_step_of_a_network_has_the_same_bits_and_loads_no_compiler(model: str) -> None:
    plain, deferred = ran(STEP + REPORT, model), ran(INSTALL + STEP + REPORT, model)
    assert deferred["digest"] == plain["digest"]
    modules = {*map(str, deferred["modules"])}  # type: ignore[call-overload]
    assert PUT_OFF & modules == set()
    assert PUT_OFF - {"scipy"} <= {*map(str, plain["modules"])}  # type: ignore[call-overload]
    assert len(modules) < 2400


COMPILED = """
compiled = torch.compile(lambda x: torch.sin(x) * 2 + 1, backend="eager")
x = torch.linspace(-2, 2, 9)
later = torch.compile(backend="eager")(lambda x: torch.sin(x)), "torch._dynamo.convert_frame" in sys.modules
module = torch.compile(torch.nn.Linear(9, 2), backend="eager")
digest = [
    compiled.__name__, later[1], bool(torch.equal(compiled(x), torch.sin(x) * 2 + 1)), later[0](x).shape[0],
    type(module).__name__, list(module(x).shape),
]
"""


def test_the_compiler_is_there_when_it_is_asked(model: str) -> None:
    document = ran(INSTALL + STEP + COMPILED + REPORT, model)
    assert document["digest"] == ["<lambda>", False, True, 9, "OptimizedModule", [2]]
    assert "torch._dynamo.convert_frame" in document["modules"]  # type: ignore[operator]


@pytest.mark.parametrize(
    "question",
    [
        "from torch._dynamo.utils import counters; digest = type(counters).__name__",
        "import torch._dynamo as kept; import torch._dynamo.utils; digest = type(kept.utils.counters).__name__",
    ],
)
def test_a_module_of_the_compiler_is_its_own(question: str) -> None:
    code = "import json, sys, torch\n" + question + "; spec = torch._dynamo.utils.__spec__.origin"
    document = ran(INSTALL + code + REPORT.replace("sorted(sys.modules)", "spec"))
    assert document["digest"] == "defaultdict"
    assert str(document["modules"]).endswith("utils.py")


NF4 = """
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
base = AutoModelForCausalLM.from_pretrained(sys.argv[1], local_files_only=True, quantization_config=config)
torch.manual_seed(0)
model = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
before = "torch._dynamo.convert_frame" in sys.modules
logits = model(torch.arange(24).reshape(2, 12)).logits
kinds = sorted({type(m).__module__ + "." + type(m).__name__ for m in model.modules() if "bit" in type(m).__name__})
digest = [before, kinds, hashlib.sha256(logits.detach().float().numpy().tobytes()).hexdigest()]
"""


def test_a_base_in_four_bits_has_the_same_logits_and_asks_no_compiler_before(model: str) -> None:
    code = "import hashlib, json, sys, torch\n" + NF4
    plain, deferred = ran(code + REPORT, model)["digest"], ran(INSTALL + code + REPORT, model)["digest"]
    assert isinstance(plain, list) and isinstance(deferred, list)
    assert (plain[0], deferred[0]) == (True, False)
    assert deferred[1:] == plain[1:]
    assert {"bitsandbytes.nn.modules.Linear4bit", "peft.tuners.lora.bnb.Linear4bit"} <= {*deferred[1]}


def test_marks_leave_functions_as_they_are() -> None:
    code = """
import json, sys, torch
def plain(): return 1
same = [torch.compiler.disable(plain), torch.compiler.disable(recursive=False)(plain), torch._dynamo.disable(plain)]
digest = [one is plain for one in same]
"""
    assert ran(INSTALL + code + REPORT)["digest"] == [True, True, True]


def test_installed_twice_is_installed_once() -> None:
    code = "import json, sys\ndigest = sum(type(f).__module__.startswith('slipway') for f in sys.meta_path)"
    assert ran(INSTALL + INSTALL + code + REPORT)["digest"] == 1


def test_nothing_is_changed_where_transformers_is_there_already() -> None:
    code = "import json, sys, transformers\n" + INSTALL + "import torch._dynamo\n"
    code += "digest = [transformers.utils.is_scipy_available(), 'torch._dynamo.convert_frame' in sys.modules]"
    assert ran(code + REPORT)["digest"] == [True, True]
