"""A streamed checkpoint is the whole one, bit for bit, however it is read, cut, shared out among threads or killed."""

import json
from collections import Counter

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from slipway.calibration.sequences import calibration_tokens
from slipway.config.quantize import QuantizeConfig
from slipway.errors import AdapterError, CheckpointError, ConfigError
from slipway.quantization.formats import FORMATS
from slipway.quantization.layouts import LAYOUTS
from slipway.streaming import loader, tensor_plan
from slipway.streaming.directories import merge_directory, quantize_directory
from slipway.streaming.meter import Meter
from slipway.system.progress import Progress
from slipway.weights.checkpoint_files import INDEX
from slipway.weights.journal import RESUME_FILE
from slipway.weights.shard_writer import ShardWriter
from slipway.weights.shards import Shards
from tests.oracles.exact_merge import assert_nearly_fp32, exact_merge
from tests.oracles.input_amax import input_amaxes
from tests.oracles.modelopt_oracle import tensors
from tests.support.families import write_family
from tests.support.pico import HIDDEN, pico_adapter, pico_model
from tests.support.streaming import CALIBRATED, FEW, calibration_rows, config, ordinary, quantized, same
from tests.support.write_whole import write_whole

CASES = [(fmt, layout) for fmt in FORMATS for layout in LAYOUTS if (fmt, layout) != ("mxfp4", "modelopt")]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return pico_model(tmp_path_factory.mktemp("base"), shards=3, layers=2)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return pico_adapter(tmp_path_factory.mktemp("adapter"), rank=6, alpha=7, layers=range(2))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return calibration_rows(tmp_path_factory.mktemp("rows") / "train.jsonl")


@pytest.fixture(scope="module")
def merged(base, adapter, tmp_path_factory):
    """The exact merge, rounded once."""
    out = tmp_path_factory.mktemp("merged")
    weights, factors = tensors(base), load_file(adapter / "adapter_model.safetensors")
    for name in [name for name in factors if ".lora_A." in name]:
        target = name.removeprefix("base_model.model.").replace(".lora_A.", ".")
        weights[target] = exact_merge(weights[target], factors[name], factors[name.replace("_A.", "_B.")], 7 / 6)
    save_file(weights, out / "model.safetensors")
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (out / file).write_bytes((base / file).read_bytes())
    return out


@pytest.fixture(scope="module")
def whole(merged, rows, tmp_path_factory):
    """(format, layout) -> what a writer that holds everything in memory makes, each made once."""
    made = {}
    tokens = calibration_tokens(rows, merged, FEW)
    ranges = input_amaxes(merged, tokens.tolist())

    def of(fmt, layout):
        if (fmt, layout) not in made:
            inputs = {"amaxes": ranges[0], "kv": ranges[1]} if fmt in CALIBRATED else {}
            made[fmt, layout] = write_whole(
                merged, tmp_path_factory.mktemp("whole") / "out", fmt, layout=layout, **inputs
            )
        return made[fmt, layout]

    return of


def needs(fmt, rows):
    return {"calibration": rows, "kv_cache": "fp8"} if fmt in CALIBRATED else {}


@pytest.mark.parametrize("fmt, layout", CASES)
@pytest.mark.parametrize("workers, band, shard_gb", [(1, 1, 4.0), (4, 3 * HIDDEN, 2e-5), (2, 1 << 18, 6e-6)])
def test_streamed_equals_whole(
    tmp_path, monkeypatch, base, adapter, merged, whole, rows, fmt, layout, workers, band, shard_gb
):
    """Base and adapter merged on the way into many shards, and the plain merge into one: the bytes of PEFT's merge
    quantized whole."""
    monkeypatch.setattr(loader, "CPU_BAND", band)
    monkeypatch.setattr(tensor_plan, "PIECE", 100 * band)
    want = {"format": fmt, "layout": layout, "workers": workers, "max_shard_gb": shard_gb, **needs(fmt, rows)}
    virtual = quantized(base, tmp_path / "virtual", adapter=adapter, **want)
    assert same(virtual, whole(fmt, layout))
    assert document(virtual) == document(whole(fmt, layout))
    if workers == 2:
        assert same(quantized(merged, tmp_path / "plain", **want), virtual)
        assert len(list(virtual.glob("*.safetensors"))) > 8


def document(folder):
    document_of = json.loads((folder / "config.json").read_text())["quantization_config"]
    return {key: value for key, value in document_of.items() if key not in ("producer", "version")}


@pytest.mark.parametrize("workers, band, shard_gb", [(1, 1, 4.0), (4, 3 * HIDDEN, 3e-5)])
def test_merged_is_the_exact_merge_rounded_once_and_pefts_within_a_step(
    tmp_path, monkeypatch, base, adapter, merged, workers, band, shard_gb
):
    monkeypatch.setattr(loader, "CPU_BAND", band)
    figures = merge_directory(
        base, adapter, tmp_path / "out", config(workers=workers, max_shard_gb=shard_gb), Progress()
    )
    assert same(tmp_path / "out", merged) and figures["bytes"] > figures["seconds"] >= 0
    peft = PeftModel.from_pretrained(ordinary(base), adapter).merge_and_unload().to(torch.bfloat16).state_dict()
    for name, value in tensors(merged).items():
        assert_nearly_fp32(value, peft[name], name)
    assert torch.equal(ordinary(tmp_path / "out").lm_head.weight, ordinary(base).lm_head.weight)
    assert not (tmp_path / "out" / RESUME_FILE).exists()


@pytest.mark.parametrize("fmt", ["nvfp4a16", "fp8-dynamic"])
def test_every_byte_of_the_base_is_fetched_once(tmp_path, monkeypatch, base, adapter, fmt):
    """q/k/v and gate/up lie in different shards here; an adapter's factors are read to be checked, and once to be
    added."""
    monkeypatch.setattr(loader, "CPU_BAND", 5 * HIDDEN)
    fetched, fetch = [], Shards.fetch

    def counted(self, name, out, start):
        fetched.append((name, start, start + out.nbytes))
        fetch(self, name, out, start)

    monkeypatch.setattr(Shards, "fetch", counted)
    quantized(base, tmp_path / "out", adapter=adapter, format=fmt, workers=4)
    source, spans = Shards.open(base), sorted(fetched)
    for name in source.names():
        at = 0
        for _, begin, end in (span for span in spans if span[0] == name):
            assert begin == at, f"{name} from byte {begin}, after {at}"
            at = end
        assert at == source.info(name).nbytes
    factors = Counter(name for name, *_ in spans if "lora_" in name)
    # looked for NaN, whether it changes anything (the first until one does), said, merged
    assert len(factors) == 28 and set(factors.values()) <= {3, 4}


def test_the_summary_says_what_was_done(tmp_path, monkeypatch, base, rows):
    monkeypatch.setattr(Meter, "seconds", lambda _: (1.25, 1e-4))  # before the pass, of the pass
    figures = quantize_directory(
        base, None, rows, tmp_path / "out", config(format="nvfp4", max_shard_gb=2e-5), Progress()
    )
    assert (figures["format"], figures["method"], figures["layout"], figures["quantized_tensors"]) == (
        "nvfp4",
        "max",
        "modelopt",
        14,
    )
    assert figures["bytes"] == sum(file.stat().st_size for file in (tmp_path / "out").glob("*.safetensors"))
    assert figures["bits_per_parameter"] == 4.5 and figures["relative_weight_mse"] == pytest.approx(0.009, rel=0.1)
    assert figures["calibration_tokens"] == 6 * 24 and len(figures["calibration_sha256"]) == 64
    read = sum(tensor.nbytes for tensor in tensors(base).values())
    assert figures["gb_per_s"] == pytest.approx(read / 1e5, abs=1e-4) and figures["warm_up_s"] == 1.25
    assert figures["peak_anonymous_gb"] > 0.05
    assert (figures["device"], figures["kernels"]) == ("cpu", "eager: as asked")


def test_tokenizer_and_configs_are_beside_the_weights(tmp_path, base):
    out = quantized(base, tmp_path / "out")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (out / name).read_bytes() == (base / name).read_bytes()
    written = json.loads((out / "config.json").read_text())
    assert written["hidden_size"] == 64 and written["quantization_config"]["ignore"] == [
        "lm_head",
        "model.embed_tokens",
    ]
    assert json.loads((out / "hf_quant_config.json").read_text())["quantization"]["quant_algo"] == "W4A16_NVFP4"


def test_what_is_not_quantized_is_written_as_it_is(tmp_path, base):
    query = "model.layers.0.self_attn.q_proj"
    out = quantized(base, tmp_path / "out", exclude=["lm_head", "*.down_proj", "model.layers.0.self_attn.[qkv]_proj"])
    written, source = tensors(out), tensors(base)
    for name in (
        f"{query}.weight",
        "model.layers.1.mlp.down_proj.weight",
        "model.embed_tokens.weight",
        "model.norm.weight",
    ):
        assert torch.equal(written[name], source[name]) and f"{name}_scale" not in written
    ignored = json.loads((out / "config.json").read_text())["quantization_config"]["ignore"]
    assert {query, "model.layers.0.self_attn.v_proj", "model.layers.1.mlp.down_proj"} <= set(ignored)


def test_a_head_of_its_own_is_quantized_only_when_asked(tmp_path, rows):
    model = pico_model(tmp_path / "base", tied=False, layers=1)
    assert tensors(quantized(model, tmp_path / "kept"))["lm_head.weight"].dtype == torch.bfloat16
    asked = quantized(model, tmp_path / "asked", exclude=[], method="gptq", calibration=rows)
    assert tensors(asked)["lm_head.weight"].dtype == torch.uint8
    assert same(quantized(model, tmp_path / "mse", exclude=[], rules={"model.*": "bf16"}, method="mse"), asked) is False
    head = tensors(quantized(model, tmp_path / "searched", exclude=[], method="mse"))["lm_head.weight_scale"]
    assert torch.equal(tensors(asked)["lm_head.weight_scale"].view(torch.uint8), head.view(torch.uint8))
    with pytest.raises(ConfigError, match=r"format of lm_head: nvfp4, with an input scale.*quantize\.exclude"):
        quantized(model, tmp_path / "static", exclude=[], format="nvfp4", calibration=rows)


def test_a_tied_head_that_is_stored_all_the_same_is_dropped(tmp_path):
    model = pico_model(tmp_path / "base", layers=1)
    stored = load_file(model / "model.safetensors")
    save_file({**stored, "lm_head.weight": stored["model.embed_tokens.weight"].clone()}, model / "model.safetensors")
    assert "lm_head.weight" not in tensors(quantized(model, tmp_path / "out"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_other_floats_are_rounded_to_bf16_first(tmp_path, dtype):
    exact = pico_model(tmp_path / "exact", dtype=dtype, layers=1)
    rounded = pico_model(tmp_path / "rounded", dtype=dtype, layers=1)
    save_file(
        {n: t.to(torch.bfloat16) for n, t in load_file(rounded / "model.safetensors").items()},
        rounded / "model.safetensors",
    )
    assert same(*(quantized(model, tmp_path / f"out-{model.name}") for model in (exact, rounded)))


def test_rules_mix_formats_and_the_first_match_wins(tmp_path, base, rows):
    rules = {"*.layers.0.*o_proj": "bf16", "*.o_proj": "fp8", "*down_proj": "nvfp4a16"}
    written = tensors(quantized(base, tmp_path / "out", format="nvfp4", rules=rules, calibration=rows))
    dtypes = [
        written[f"model.layers.{name}.weight"].dtype
        for name in ("0.self_attn.o_proj", "1.self_attn.o_proj", "1.mlp.down_proj", "1.mlp.up_proj")
    ]
    assert dtypes == [torch.bfloat16, torch.float8_e4m3fn, torch.uint8, torch.uint8]
    scales = [
        f"model.layers.1.{name}.input_scale" in written for name in ("self_attn.o_proj", "mlp.down_proj", "mlp.up_proj")
    ]
    assert scales == [True, False, True]


def replaced(tmp_path, name, tensor, **params):
    model = pico_model(tmp_path / "base", layers=1, **params)
    save_file({**load_file(model / "model.safetensors"), name: tensor}, model / "model.safetensors")
    return model


def published(folder):
    return (
        [file.name for file in folder.glob("*") if file.suffix == ".safetensors" or file.name == INDEX]
        if folder.exists()
        else []
    )


UP = "model.layers.0.mlp.up_proj.weight"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", [UP, "model.norm.weight", "model.embed_tokens.weight"])
def test_nan_and_inf_in_the_base_are_named_and_nothing_is_published(tmp_path, name, bad):
    tensor = load_file(pico_model(tmp_path / "good", layers=1) / "model.safetensors")[name]
    tensor.view(-1)[-3] = bad
    model = replaced(tmp_path, name, tensor)
    lora = pico_adapter(tmp_path / "adapter", layers=[0])
    for adapter in (None, lora):
        with pytest.raises(CheckpointError, match=rf"{name} in .*: 1 of \d+ values are NaN or Inf"):
            quantized(model, tmp_path / f"out-{adapter}".replace("/", ""), adapter=adapter)
    with pytest.raises(CheckpointError, match=rf"{name} in .*NaN or Inf"):
        merge_directory(model, lora, tmp_path / "merged", config(), Progress())
    assert not any(published(folder) for folder in tmp_path.glob("out*")) and not published(tmp_path / "merged")


def test_nan_in_the_adapter_and_a_sum_that_overflows_are_named(tmp_path, base):
    pair = "base_model.model.model.layers.0.mlp.up_proj.lora_{}.weight"
    nan = pico_adapter(tmp_path / "nan", layers=range(2), extra={pair.format("B"): torch.full((128, 4), float("nan"))})
    with pytest.raises(AdapterError, match=r"up_proj\.lora_B\.weight in .*NaN or Inf"):
        quantized(base, tmp_path / "out", adapter=nan)
    huge = {pair.format("A"): torch.full((4, 64), 3e19), pair.format("B"): torch.full((128, 4), 3e19)}
    overflow = pico_adapter(tmp_path / "huge", layers=range(2), extra=huge)
    with pytest.raises(CheckpointError, match=rf"merged tensor {UP}: 8192 of 8192 values are NaN or Inf"):
        quantized(base, tmp_path / "over", adapter=overflow)
    assert not published(tmp_path / "out") and not published(tmp_path / "over")


def test_a_shard_cut_short_is_named(tmp_path, base, monkeypatch):
    model = pico_model(tmp_path / "base", layers=1)
    fetch, cut = Shards.fetch, model / "model.safetensors"

    def cut_first(self, name, out, start):
        with cut.open("r+b") as file:
            file.truncate(cut.stat().st_size // 2)
        fetch(self, name, out, start)

    monkeypatch.setattr(Shards, "fetch", cut_first)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: ends \d+ bytes early"):
        quantized(model, tmp_path / "out")
    monkeypatch.undo()
    with pytest.raises(
        CheckpointError, match=r"shard .*model\.safetensors: \d+ bytes; expected \d+ bytes, by its header"
    ):
        quantized(model, tmp_path / "again")
    assert not published(tmp_path / "out")


QUERY = "model.layers.0.self_attn.q_proj"
REFUSED = [
    ({"exclude": ["lm_head", "*.dwn_proj"]}, r"quantize pattern: \*\.dwn_proj"),
    (
        {"rules": {"*.q_proj": "bf16"}},
        r"formats of .*model\.layers\.0\.self_attn\.q_proj: bf16, nvfp4a16; expected one",
    ),
    ({"rules": {"*.up_proj": "fp8-dynamic"}, "layout": "compressed-tensors"}, r"fp8-dynamic, nvfp4a16; expected one"),
    ({"format": "mxfp4", "layout": "modelopt"}, r"layout modelopt: format mxfp4"),
    ({"format": "nvfp4"}, r"calibration data: none; expected rows .*input scales of nvfp4.*--calibration"),
    ({"rules": {"*.o_proj": "fp8"}}, r"calibration data: none; expected rows .*input scales of fp8"),
    ({"method": "gptq"}, r"calibration data: none; expected rows .*gptq"),
    ({"kv_cache": "fp8"}, r"calibration data: none; expected rows .*KV scales"),
]


@pytest.mark.parametrize("params, match", REFUSED)
def test_what_cannot_be_done_is_refused_before_anything_is_written(tmp_path, base, params, match):
    with pytest.raises(ConfigError, match=match):
        quantized(base, tmp_path / "out", **params)
    assert not (tmp_path / "out").exists()


def test_blocks_that_do_not_divide_are_refused_by_name(tmp_path):
    odd = replaced(tmp_path, f"{QUERY}.weight", torch.ones(64, 72, dtype=torch.bfloat16))
    with pytest.raises(
        CheckpointError,
        match=rf"{QUERY}.weight: 72 input features; expected a multiple of 16.*add {QUERY} to quantize.exclude",
    ):
        quantized(odd, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    quantized(odd, tmp_path / "excluded", exclude=["lm_head", "*.[qkv]_proj"])
    quantized(odd, tmp_path / "fp8", format="fp8-dynamic")


def test_a_model_without_keys_of_their_own_has_no_kv_scales(tmp_path, rows):
    model = pico_model(tmp_path / "base", layers=1)
    stored = load_file(model / "model.safetensors")
    attention = "model.layers.0.self_attn"
    joined = torch.cat([stored.pop(f"{attention}.{m}_proj.weight") for m in "qkv"])
    save_file({**stored, f"{attention}.qkv_proj.weight": joined}, model / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"quantize\.kv_cache: fp8, but no k_proj in this model.*kv_cache=none"):
        quantized(model, tmp_path / "out", kv_cache="fp8", calibration=rows)
    assert not published(tmp_path / "out")


def test_weights_that_lie_inputs_first_are_refused(tmp_path):
    model = write_family("gpt2", tmp_path / "base")
    with pytest.raises(CheckpointError, match=r"GPT2LMHeadModel: no weight to quantize: .*embedding, transposed"):
        quantized(model, tmp_path / "out")


def test_integers_scalars_and_empty_tensors_are_passed_on(tmp_path):
    odd = {
        "model.count": torch.tensor(7),
        "model.ids": torch.arange(6).reshape(2, 3),
        "model.none": torch.ones(0, 4, dtype=torch.bfloat16),
    }
    model = pico_model(tmp_path / "base", layers=1)
    save_file({**load_file(model / "model.safetensors"), **odd}, model / "model.safetensors")
    written = tensors(quantized(model, tmp_path / "out"))
    assert all(
        torch.equal(written[name], tensor) and written[name].dtype == tensor.dtype for name, tensor in odd.items()
    )


def test_what_a_class_keeps_in_fp32_stays_bit_for_bit_under_an_adapter_too(tmp_path):
    model, name = write_family("glm4_moe", tmp_path / "model"), "model.layers.1.mlp.gate.e_score_correction_bias"
    stored = load_file(model / "model.safetensors")
    save_file({**stored, name: torch.tensor([0.1, 1 / 3, 1e-5, 7.7])}, model / "model.safetensors", {"format": "pt"})
    shape = stored["model.layers.1.self_attn.q_proj.weight"].shape
    factors = {"A": torch.ones(2, shape[1]) / 7, "B": torch.ones(shape[0], 2) / 9}
    pair = {f"base_model.model.model.layers.1.self_attn.q_proj.lora_{side}.weight": w for side, w in factors.items()}
    adapter = pico_adapter(tmp_path / "adapter", targets=(), config={"target_modules": ["q_proj"], "r": 2}, extra=pair)
    (adapter / "adapter_config.json").write_text(
        json.dumps(
            {
                "peft_type": "LORA",
                "r": 2,
                "lora_alpha": 2,
                "target_modules": ["layers.1.self_attn.q_proj"],
                "bias": "none",
            }
        )
    )
    merge_directory(model, adapter, tmp_path / "merged", config(), Progress())
    out = quantized(model, tmp_path / "out", adapter=adapter, format="fp8-dynamic")
    for folder in (tmp_path / "merged", out):
        assert torch.equal(Shards.open(folder).read(name), torch.tensor([0.1, 1 / 3, 1e-5, 7.7]))


def test_what_is_kept_is_counted_and_said(tmp_path):
    class Notes(Progress):
        def note(self, text):
            messages.append(text)

    messages = []
    quantized(write_family("idefics3", tmp_path / "model"), tmp_path / "out", progress=Notes(), format="fp8-dynamic")
    assert "14 weights are quantized; kept: 1 embedding, 1 head, 5 outside, 7 tower" in messages


def test_a_budget_of_bits_raises_what_loses_most(tmp_path, base, rows):
    out = quantized(base, tmp_path / "out", format="nvfp4", max_bits=6.0, calibration=rows)
    chosen = json.loads((out / "precision.json").read_text())
    assert {"nvfp4", "fp8"} <= {unit["chosen"] for unit in chosen}
    bits = {"nvfp4": 4.5, "fp8": 8.0, "bf16": 16.0}
    total = sum(unit["parameters"] for unit in chosen)
    assert 5.5 < sum(bits[unit["chosen"]] * unit["parameters"] for unit in chosen) / total <= 6.0
    with pytest.raises(ConfigError, match=r"quantize\.max_bits: 4\.2; expected at least 4\.5"):
        quantized(base, tmp_path / "less", max_bits=4.2)


@pytest.mark.parametrize("fmt", ["nvfp4", "nvfp4a16"])
def test_a_calibrated_pass_goes_on_only_on_the_device_it_began_on(tmp_path, monkeypatch, fmt):
    """Scales come out of a network's matmuls, whose last bits differ by device; all other bytes are the same
    everywhere."""
    model, rows, out = pico_model(tmp_path / "model"), tmp_path / "rows.jsonl", tmp_path / "out"
    rows.write_text(
        "".join(json.dumps({"text": f"{i} green bottles hanging on the wall. " * 4}) + "\n" for i in range(8))
    )
    params = QuantizeConfig(format=fmt, calibration={"samples": 2, "length": 32}, device="cpu")
    calibration = rows if fmt == "nvfp4" else None
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ShardWriter, "close", interrupted)
        quantize_directory(model, None, calibration, out, params, Progress())
    first, *rest = (out / RESUME_FILE).read_text().splitlines()
    if fmt == "nvfp4a16":
        assert "device" not in json.loads(first)
        return
    (out / RESUME_FILE).write_text("\n".join([json.dumps({**json.loads(first), "device": "cuda"}), *rest]) + "\n")
    with pytest.raises(ConfigError, match=r"made with device = cuda; expected device = cpu"):
        quantize_directory(model, None, calibration, out, params, Progress())


def interrupted(*_):
    raise KeyboardInterrupt
