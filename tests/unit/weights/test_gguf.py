"""A GGUF's tensors by hand: its blocks, the rows of q and k, names and config; and what is refused by name."""

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig

from slipway.errors import CheckpointError
from slipway.weights.gguf import GgufSource, hf_config, hf_name, write_tokenizer
from slipway.weights.shards import TensorInfo
from tests.support.gguf_file import TEMPLATE, TOKENS, write_gguf
from tests.support.pico import HEADS, HIDDEN, INTERMEDIATE, KV_HEADS

ATTENTION = "model.layers.0.self_attn"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "pico.gguf")


@pytest.fixture(scope="module")
def source(file):
    return GgufSource(file)


def small(path, **tensors):
    """A GGUF of two heads, one for keys, with these tensors: arrays in fp32, or (bytes, type)."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    for name, value in tensors.items():
        data, kind = value if isinstance(value, tuple) else (value, None)
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return GgufSource(path)


def test_names_shapes_and_types(source):
    names = ["input_layernorm", "post_attention_layernorm"]
    names += [f"self_attn.{x}_proj" for x in "qkvo"] + [f"mlp.{x}_proj" for x in ("gate", "up", "down")]
    assert set(source.names()) == {
        "model.embed_tokens.weight",
        "model.norm.weight",
        *(f"model.layers.0.{name}.weight" for name in names),
    }
    assert source.info(f"{ATTENTION}.k_proj.weight") == TensorInfo(torch.bfloat16, (HIDDEN // 2, HIDDEN))
    assert source.info("model.layers.0.mlp.down_proj.weight").shape == (HIDDEN, INTERMEDIATE)
    for name in source.names():
        tensor = source.read(name)
        assert (tensor.dtype, tuple(tensor.shape)) == (torch.bfloat16, source.info(name).shape)
    assert source.metadata == {"quantization": "F32+Q4_1+Q8_0"}


def test_rows_of_q_and_k_are_put_into_halves_and_those_of_others_stay(tmp_path):
    """llama.cpp's row 2 i + half of a head of 8 is Hugging Face's row 4 half + i."""
    rows = np.arange(16, dtype=np.float32).repeat(32).reshape(16, 32)
    names = {"blk.3.attn_q.weight": rows, "blk.3.attn_k.weight": rows[:8], "blk.3.attn_v.weight": rows[:8]}
    source = small(tmp_path / "rows.gguf", **names)
    q, k, v = (source.read(f"model.layers.3.self_attn.{x}_proj.weight")[:, 0].tolist() for x in "qkv")
    assert q == [0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15]
    assert k == [0, 2, 4, 6, 1, 3, 5, 7] and v == list(range(8))


def test_a_block_of_q8_0_is_a_half_times_bytes(tmp_path):
    block = np.concatenate([np.float16([0.25]).view(np.uint8), np.arange(-16, 16, dtype=np.int8).view(np.uint8)])
    source = small(tmp_path / "q8.gguf", **{"output.weight": (block.reshape(1, -1), gguf.GGMLQuantizationType.Q8_0)})
    assert source.read("lm_head.weight").tolist() == [[q / 4 for q in range(-16, 16)]]


def test_a_block_of_q4_1_is_a_scale_and_a_minimum_with_low_nibbles_first(tmp_path):
    nibbles = np.uint8([i | (15 - i) << 4 for i in range(16)])
    block = np.concatenate([np.float16([0.5, -2]).view(np.uint8), nibbles])
    source = small(tmp_path / "q4.gguf", **{"output.weight": (block.reshape(1, -1), gguf.GGMLQuantizationType.Q4_1)})
    low = [0.5 * i - 2 for i in range(16)]
    assert source.read("lm_head.weight").tolist() == [low + low[::-1]]


def test_fp32_is_rounded_once_to_bf16_ties_to_even(tmp_path):
    row = np.float32([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -(2**-140)] * 8).reshape(1, 32)
    source = small(tmp_path / "f32.gguf", **{"output.weight": row})
    assert source.read("lm_head.weight")[0, :4].tolist() == [1, 1 + 4 * 2**-8, 1 + 2 * 2**-8, -0.0]


@pytest.mark.parametrize(
    "name, expected",
    [
        ("blk.3.attn_q.weight", "model.layers.3.self_attn.q_proj.weight"),
        ("blk.11.attn_output.weight", "model.layers.11.self_attn.o_proj.weight"),
        ("blk.0.ffn_norm.weight", "model.layers.0.post_attention_layernorm.weight"),
        ("blk.0.ffn_down.bias", "model.layers.0.mlp.down_proj.bias"),
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("output_norm.weight", "model.norm.weight"),
        ("output.weight", "lm_head.weight"),
    ],
)
def test_names_are_hugging_faces(name, expected):
    assert hf_name(name) == expected


@pytest.mark.parametrize("name", ["blk.0.ffn_gate_exps.weight", "rope_freqs.weight", "blk.0"])
def test_a_tensor_of_no_llama_is_refused_by_name(name):
    with pytest.raises(CheckpointError, match=rf"GGUF tensor {name}: unknown; expected a Llama tensor"):
        hf_name(name)


def test_the_config_by_hand_and_as_transformers_reads_it(source):
    config = hf_config(source)
    assert config["rms_norm_eps"] == 1e-5 and config["tie_word_embeddings"] is True
    read = LlamaConfig(**config)
    assert (read.hidden_size, read.intermediate_size, read.num_hidden_layers) == (HIDDEN, INTERMEDIATE, 1)
    assert (read.num_attention_heads, read.num_key_value_heads, read.head_dim) == (HEADS, KV_HEADS, HIDDEN // HEADS)
    assert (read.vocab_size, read.max_position_embeddings) == (len(TOKENS), 256)
    assert (read.bos_token_id, read.eos_token_id, read.pad_token_id) == (1, 2, 2)
    assert read.rope_parameters["rope_theta"] == 10000.0


def test_the_tokenizer_splits_digits_and_has_its_template(source, tmp_path):
    write_tokenizer(source, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.tokenize("hell 42") == ["hell", "Ġ", "4", "2"]
    assert tokenizer("<|im_start|>he<|im_end|>").input_ids == [1, TOKENS.index("he"), 2]
    assert (tmp_path / "chat_template.jinja").read_text() == TEMPLATE
    assert (tokenizer.unk_token, tokenizer.bos_token, tokenizer.eos_token) == (TOKENS[0], TOKENS[1], TOKENS[2])


def test_another_architecture_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"GGUF .*qwen\.gguf: architecture qwen2; expected llama"):
        GgufSource(write_gguf(tmp_path / "qwen.gguf", arch="qwen2"))


def test_another_pre_tokenizer_is_refused(tmp_path):
    source = GgufSource(write_gguf(tmp_path / "pico.gguf", pre="llama-bpe"))
    with pytest.raises(CheckpointError, match="GGUF tokenizer: llama-bpe; expected smollm"):
        write_tokenizer(source, tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()


def test_a_key_that_the_header_lacks_is_refused_by_name(tmp_path):
    source = GgufSource(write_gguf(tmp_path / "pico.gguf", without="llama.rope.freq_base"))
    with pytest.raises(CheckpointError, match=r"GGUF .*pico\.gguf: no key llama\.rope\.freq_base"):
        hf_config(source)


def test_a_tensor_that_is_absent_is_refused_by_name(source):
    for call in (source.info, source.read):
        with pytest.raises(CheckpointError, match=r"tensor lm_head\.weight: not in .*pico\.gguf"):
            call("lm_head.weight")


@pytest.mark.parametrize("data", [b"", b"GGUF", b"not a model at all"], ids=["empty", "cut short", "another file"])
def test_a_file_that_is_no_gguf_is_refused_by_name(tmp_path, data):
    (tmp_path / "model.gguf").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"GGUF .*model\.gguf"):
        GgufSource(tmp_path / "model.gguf")
