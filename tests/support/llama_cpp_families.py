"""Tiny models of `families` that llama.cpp's converter takes, converted many in one process, and asked by token ids.

The converter knows a byte-level tokenizer by a hash of the ids that it gives to a text; a tiny vocabulary's is in no
list. `convert_all` answers GPT-2 in its place: no text is tokenized here. All else is the converter's own doing.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import torch
from sentencepiece import sentencepiece_model_pb2 as sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from slipway.runners.base import OFFLINE
from slipway.system import ports
from tests.support.families import DECODERS, FAMILIES, LAYERS, VOCABULARY, write_family

_SPECIAL = (
    "<unk>", "<|im_start|>", "<|im_end|>", "[gMASK]", "<sop>", "<|user|>", "<|observation|>", "<|endoftext|>",
)  # fmt: skip
_LETTERS = "etaoinshrdlu"
_PIECES = ("llama", "llama_tied", "mistral", "mixtral", "gemma2", "gemma3", "gemma3_text", "phi3")  # SentencePiece's
_ROPE = FAMILIES["gpt_oss"]["rope_parameters"]
_SIZES = {"intermediate_size": 128}  # ggml holds NVFP4 in blocks of 64 inputs
_ROUTED = {**_SIZES, "moe_intermediate_size": 64}
_SLIDING = {"layer_types": ["sliding_attention"] * LAYERS}

# Keys that llama.cpp, or its converter, does not read or takes in one way only: with the value that published models
# have, or one that makes no difference. With another it computes another function than transformers.
AS_LLAMA_CPP_READS: dict[str, dict[str, Any]] = {
    "qwen2": {"head_dim": 16},  # always hidden size / heads
    "qwen3_moe": {**_ROUTED, "norm_topk_prob": True},  # always so
    "gemma3_text": _SLIDING,  # of every six layers the last is global, whatever layer_types says
    "gemma3": {"text_config": {**FAMILIES["gemma3"]["text_config"], **_SIZES, **_SLIDING}},
    "qwen2_5_vl": {"text_config": {**FAMILIES["qwen2_5_vl"]["text_config"], **_SIZES}},
    "mistral": {"sliding_window": None},  # not read
    "gpt_oss": {"rope_parameters": {**_ROPE, "truncate": True}},  # YaRN's corners are always whole numbers
    "glm4_moe": _ROUTED,
    "lfm2_moe": _ROUTED,
    "deepseek_v3": {
        **_ROUTED,
        "q_lora_rank": 64,
        "kv_lora_rank": 64,
        "qk_nope_head_dim": 64,
        "scoring_func": "sigmoid",  # published; transformers 5 writes no such key, and softmax is taken
    },
    "gpt2": {"n_ctx": 256},  # published; transformers 5 writes no such key, and the converter needs it
}


def write_servable(name: str, out: Path, *, seed: int = 0, **keys: Any) -> Path:
    """Write a model of the family that the converter takes and llama.cpp computes as transformers does, but for what
    `keys` change."""
    servable = {**(_SIZES if name in DECODERS else {}), **AS_LLAMA_CPP_READS.get(name, {})}
    write_family(name, out, seed=seed, **{**servable, **keys})
    (_write_pieces if name in _PIECES else _write_byte_level)(out)
    return out


def _write_byte_level(out: Path) -> None:
    tokens = [*_SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges = [(one, other) for one in _LETTERS for other in _LETTERS][: VOCABULARY - len(tokens) - 8]
    tokens += [one + other for one, other in merges]
    tokenizer = Tokenizer(BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in _SPECIAL])
    tokenizer.add_tokens([f"<unused{i}>" for i in range(VOCABULARY - len(tokens))])
    tokenizer.save(str(out / "tokenizer.json"))


def _write_pieces(out: Path) -> None:
    """tokenizer.model beside tokenizer.json of `pico`, for the converters that ask for SentencePiece's file."""
    vocabulary = json.loads((out / "tokenizer.json").read_text())["model"]["vocab"]
    model, kinds = sentencepiece.ModelProto(), sentencepiece.ModelProto.SentencePiece
    for token, number in sorted(vocabulary.items(), key=lambda item: item[1]):
        kind = kinds.BYTE if token.startswith("<0x") else kinds.CONTROL if token.startswith("<|") else kinds.NORMAL
        model.pieces.add(piece=token, score=-float(number), type=kinds.UNKNOWN if token == "<unk>" else kind)
    spec = model.trainer_spec
    spec.model_type, spec.byte_fallback, spec.vocab_size = spec.BPE, True, len(vocabulary)
    spec.unk_id, spec.bos_id, spec.eos_id, spec.pad_id = 0, 1, 2, -1
    (out / "tokenizer.model").write_bytes(model.SerializeToString())


def convert_all(converter: Path, models: Mapping[str, Path], out: Path, outtype: str) -> dict[str, str]:
    """Convert every model to `<out>/<name>.gguf` in one process. Returns the converter's own reason by name for those
    that it refused."""
    job = {"models": {name: str(path) for name, path in models.items()}, "out": str(out), "outtype": outtype}
    command = [sys.executable, "-m", "tests.support.llama_cpp_families", str(converter), json.dumps(job)]
    ran = subprocess.run(command, capture_output=True, text=True, env={**dict(OFFLINE)}, check=False)
    assert ran.returncode == 0, ran.stderr[-4000:]
    refused: dict[str, str] = json.loads(ran.stdout.splitlines()[-1])
    return refused


def _convert_here(converter: Path, job: Mapping[str, Any]) -> dict[str, str]:
    sys.path.insert(0, str(converter.parent))
    import convert_hf_to_gguf
    from conversion.base import TextModel

    TextModel.get_vocab_base_pre = lambda *_: "gpt-2"
    refused = {}
    for name, model in job["models"].items():
        out = ["--outfile", f"{job['out']}/{name}.gguf", "--outtype", job["outtype"]]
        sys.argv = [converter.name, model, *out, "--model-name", "model"]  # llama.cpp goes by "phi3" in the name
        log = io.StringIO()
        logging.getLogger().addHandler(handler := logging.StreamHandler(log))
        try:
            convert_hf_to_gguf.main()
        except (Exception, SystemExit) as err:  # noqa: BLE001 (whatever the converter raises is its reason)
            refused[name] = f"{err!r} {log.getvalue()[-2000:]}"
        logging.getLogger().removeHandler(handler)
    return refused


@dataclass(frozen=True)
class Answer:
    """Greedy tokens, and log-probabilities fp32 [tokens, vocabulary] of each step before any sampler."""

    tokens: list[int]
    log_probabilities: torch.Tensor


def ask(server: Path, model: Path, prompt: Sequence[int], count: int, allowed: Sequence[int]) -> Answer:
    """Serve a GGUF file and have it go on from `prompt` by `count` of the `allowed` tokens. Those whose text is no
    whole character have no log-probabilities in llama-server's answer: leave them out."""
    port = ports.any_port("127.0.0.1")
    size = ["--ctx-size", "256", "--parallel", "1", "--threads", "1", "--no-warmup", "--offline"]
    log = model.with_suffix(".log")
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(server), "--model", str(model), "--port", str(port), *size], stdout=output, stderr=output
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
                _await_health(process, client, log)
                others = sorted(set(range(VOCABULARY)) - set(allowed))
                body = {"prompt": list(prompt), "n_predict": count, "temperature": 0, "n_probs": VOCABULARY}
                body |= {"return_tokens": True, "ignore_eos": True, "logit_bias": [[i, False] for i in others]}
                answer = client.post("/completion", json=body).raise_for_status().json()
        finally:
            process.terminate()
            process.wait()
    rows = torch.full((count, VOCABULARY), -torch.inf)
    for row, step in zip(rows, answer["completion_probabilities"], strict=True):
        for candidate in step["top_logprobs"]:
            value = candidate["logprob"]
            row[candidate["id"]] = torch.nan if value is None else value  # JSON has no NaN
    return Answer(list(answer["tokens"]), rows)


def _await_health(process: subprocess.Popen[bytes], client: httpx.Client, log: Path) -> None:
    while True:
        assert process.poll() is None, log.read_text()[-2000:]
        with contextlib.suppress(httpx.TransportError):
            if client.get("/health").status_code == 200:
                return
        time.sleep(0.02)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_convert_here(Path(sys.argv[1]), json.loads(sys.argv[2]))) + "\n")
