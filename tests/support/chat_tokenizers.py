"""Small tokenizers with the chat templates' manners of the families that people fine-tune.

Each is trained on a few lines, in the kind that its family uses (byte-level BPE, or BPE over pieces with `▁` for a
space and bytes for the rest), with its family's special tokens. The templates are written here after the public ones:
the same order of tokens, white space, refusals and rewritings, without their documents and tool schemas.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from slipway.data.chat_template import ChatTemplate

LINES = (
    "turn on the lamp in the kitchen",
    "turn off the light in the hall, please",
    'the answer is {"intent": "On", "area": "kitchen"}',
    "user assistant system model think final analysis\n\nuser:\n",
    "[INST] [/INST] <<SYS>> <</SYS>>",
    "a\n\nb\n\n\nc\n\n\n\nd\n\n\ne",  # line feeds that become one token
)
# Llama-3's words, Qwen's and tekken's but for digits. GPT-2's would cut line feeds in two where text follows them.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Family:
    """`special`: control tokens; `plain`: added tokens that are text like any other; `stops`: those that the model's
    generation config stops at beside `eos`. `pieces`: SentencePiece's manner, else byte-level."""

    template: str
    special: tuple[str, ...]
    eos: str
    bos: str | None = None
    stops: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()
    pieces: bool = False
    prefix_space: bool = False
    adds_bos: bool = False


_TURNS = "{% for m in messages %}"
CHATML = (
    _TURNS + "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_QWEN3 = (  # reasoning of answers before the last user message is dropped, an empty block opens later ones
    "{% set ns = namespace(last=0) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% set text = m.content %}{% set thought = '' %}"
    "{% if '</think>' in text %}{% set thought = text.split('</think>')[0].rstrip('\n').split('<think>')[-1]"
    ".lstrip('\n') %}{% set text = text.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{ '<|im_start|>assistant\n' }}"
    "{% if loop.index0 > ns.last %}{{ '<think>\n' + thought.strip('\n') + '\n</think>\n\n' }}{% endif %}"
    '{{ text }}{% if m.tool_calls %}{% for c in m.tool_calls %}{{ \'\n<tool_call>\n{"name": "\' + c.function.name + '
    "'\", \"arguments\": ' + (c.function.arguments | tojson) + '}\n</tool_call>' }}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}"
    "{% elif m.role == 'tool' %}{{ '<|im_start|>user\n<tool_response>\n' + m.content + "
    "'\n</tool_response><|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
)
_OPENED, _CLOSED = "{{ '<think>\n' }}", "{{ '<think>\n\n</think>\n\n' }}"
# By what a prompt ends with: nothing unless enable_thinking is false, a closed block unless it is true, an open one
QWEN3_ON = (
    f"{_QWEN3}{{% if enable_thinking is defined and enable_thinking is false %}}{_CLOSED}{{% endif %}}{{% endif %}}"
)
QWEN3_OFF = (
    f"{_QWEN3}{{% if enable_thinking is defined and enable_thinking %}}{_OPENED}{{% else %}}{_CLOSED}{{% endif %}}"
    "{% endif %}"
)
QWEN3_THINKING = f"{_QWEN3}{_OPENED}{{% endif %}}"
_LLAMA3 = (
    "{{ bos_token }}" + _TURNS + "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + "
    "'<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
_ALTERNATE = (
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
)
_GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + _TURNS
    + _ALTERNATE
    + "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim + "
    "'<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
_GEMMA3 = (  # the system prompt becomes the beginning of the first user turn
    "{{ bos_token }}{% set first = '' %}{% set turns = messages %}{% if messages[0].role == 'system' %}"
    "{% set first = messages[0].content + '\n\n' %}{% set turns = messages[1:] %}{% endif %}"
    "{% for m in turns %}" + _ALTERNATE + "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + "
    "'\n' + (first if loop.first else '') + m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
_MISTRAL_V1 = (
    "{{ bos_token }}" + _TURNS + _ALTERNATE + "{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ m.content + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)


def _mistral(space: str) -> str:
    """v3 writes a space inside its marks, tekken none; the system prompt goes into the last user turn."""
    return (
        "{% set system = '' %}{% set turns = messages %}{% if messages[0].role == 'system' %}"
        "{% set system = messages[0].content + '\n\n' %}{% set turns = messages[1:] %}{% endif %}"
        "{{ bos_token }}{% for m in turns %}" + _ALTERNATE + "{% if m.role == 'user' %}"
        f"{{{{ '[INST]{space}' + (system if m is sameas turns[-1] or m is sameas turns[-2] else '') + m.content + "
        "'[/INST]' }}{% else %}"
        f"{{{{ '{space}' + m.content | trim + eos_token }}}}{{% endif %}}{{% endfor %}}"
    )


_PHI3 = (
    _TURNS + "{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
_HARMONY = (  # the last answer ends with <|return|>, earlier ones with <|end|>
    _TURNS + "{% if m.role == 'assistant' %}{{ '<|start|>assistant<|channel|>final<|message|>' + m.content + "
    "('<|return|>' if loop.last and not add_generation_prompt else '<|end|>') }}"
    "{% else %}{{ '<|start|>' + ('developer' if m.role == 'system' else m.role) + '<|message|>' + m.content + "
    "'<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
_U, _A, _E = "<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>"
_B = "<\uff5cbegin\u2581of\u2581sentence\uff5c>"


def _deepseek(opening: str) -> str:
    """The system prompt stands before the first user mark; R1's prompt opens a block of reasoning."""
    return (
        "{{ bos_token }}" + _TURNS + "{% if m.role == 'system' %}{{ m.content }}"
        f"{{% elif m.role == 'user' %}}{{{{ '{_U}' + m.content }}}}"
        f"{{% else %}}{{{{ '{_A}' + m.content.split('</think>')[-1] + '{_E}' }}}}{{% endif %}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{{{{ '{_A}{opening}' }}}}{{% endif %}}"
    )


_IM = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
_LLAMA3_SPECIAL = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_GEMMA_SPECIAL = ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>")
_INST = ("<s>", "</s>", "[INST]", "[/INST]")
_DEEPSEEK = Family(_deepseek(""), (_B, _E, _U, _A), _E, _B, plain=("<think>", "</think>"), adds_bos=True)

FAMILIES: dict[str, Family] = {
    "chatml": Family(CHATML, _IM, "<|im_end|>"),
    "llama3": Family(_LLAMA3, _LLAMA3_SPECIAL, "<|eot_id|>", "<|begin_of_text|>", ("<|end_of_text|>",), adds_bos=True),
    "gemma": Family(_GEMMA, _GEMMA_SPECIAL, "<eos>", "<bos>", ("<end_of_turn>",), pieces=True, adds_bos=True),
    "gemma3": Family(_GEMMA3, _GEMMA_SPECIAL, "<eos>", "<bos>", ("<end_of_turn>",), pieces=True, adds_bos=True),
    "mistral-v1": Family(
        _MISTRAL_V1, ("<unk>", "<s>", "</s>"), "</s>", "<s>", pieces=True, prefix_space=True, adds_bos=True
    ),
    "mistral-v3": Family(_mistral(" "), _INST, "</s>", "<s>", pieces=True, prefix_space=True, adds_bos=True),
    "mistral-tekken": Family(_mistral(""), _INST, "</s>", "<s>", adds_bos=True),
    "qwen3": Family(QWEN3_ON, _IM, "<|im_end|>", plain=("<think>", "</think>", "<tool_call>", "</tool_call>")),
    "phi3": Family(
        _PHI3,
        ("<s>", "<|endoftext|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"),
        "<|endoftext|>",
        "<s>",
        ("<|end|>",),
        pieces=True,
        prefix_space=True,
    ),
    "gpt-oss": Family(
        _HARMONY,
        ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>"),
        "<|return|>",
        stops=("<|call|>",),
    ),
    "deepseek-v3": _DEEPSEEK,
    "deepseek-r1": Family(_deepseek("<think>\\n"), _DEEPSEEK.special, _E, _B, plain=_DEEPSEEK.plain, adds_bos=True),
}


def chat(name: str, **changes: Any) -> ChatTemplate:
    """A family's chat template and tokenizer; `changes` replace fields of the family."""
    family = FAMILIES[name]
    family = Family(**{**vars(family), **changes})
    tokenizer = tokenizer_of(family)
    ids = [tokenizer.convert_tokens_to_ids(text) for text in family.stops]
    return ChatTemplate.of(tokenizer, ids)


def tokenizer_of(family: Family) -> PreTrainedTokenizerFast:
    """The tokenizer of a family, with its chat template."""
    raw = Tokenizer.from_str(_trained(family.pieces, family.prefix_space))
    raw.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in family.special])
    raw.add_tokens([AddedToken(text, special=False, normalized=False) for text in family.plain])
    if family.adds_bos:
        bos = (family.bos or "", raw.token_to_id(family.bos or ""))
        raw.post_processor = processors.TemplateProcessing(single=f"{bos[0]} $A", special_tokens=[bos])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=family.bos, eos_token=family.eos)
    tokenizer.chat_template = family.template
    return tokenizer


@cache
def _trained(pieces: bool, prefix_space: bool) -> str:
    """A tokenizer without special tokens, as JSON."""
    tokenizer = Tokenizer(BPE(byte_fallback=pieces, unk_token="<unk>" if pieces else None, fuse_unk=pieces))
    if pieces:
        alphabet = [f"<0x{byte:02X}>" for byte in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=["<unk>", *alphabet], show_progress=False)
        scheme = "first" if prefix_space else "never"
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    else:
        trainer = trainers.BpeTrainer(
            vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        )
        tokenizer.normalizer = normalizers.NFC()
        split = pre_tokenizers.Split(Regex(_WORDS), behavior="isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(LINES, trainer)
    return str(tokenizer.to_str())
