"""What is wrong with a row for the model that is to learn it: each kind with the rule that says whether rows are
refused or only warned about, and the way out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Rule:
    """`refuse`: such a row would be learnt wrongly or not at all. `warn`: it is learnt as the template has it, which
    may not be what its author meant."""

    outcome: Literal["refuse", "warn"]
    title: str
    way_out: str


RULES: dict[str, Rule] = {
    "surrogate": Rule(
        "refuse",
        "text holds half of a surrogate pair, which is no Unicode character",
        "write the character itself, or delete it",
    ),
    "control": Rule(
        "refuse",
        "text holds a control token of the model, which would be read as one",
        "rewrite the text, or delete the row",
    ),
    "duplicate_key": Rule("refuse", "a JSON answer names a key twice", "keep one of both"),
    "template": Rule(
        "refuse",
        "the chat template refuses the conversation",
        "change its roles (data.system adds a system prompt), or give the model another chat_template.jinja",
    ),
    "no_end": Rule(
        "refuse",
        "the chat template writes no end of turn after the answer, so that the model would never learn to stop",
        "add the end-of-sequence token after the answer in chat_template.jinja, or list the template's own end in "
        "generation_config.json as eos_token_id",
    ),
    "rewritten": Rule(
        "refuse",
        "the chat template writes the conversation before an answer otherwise than it did when the answer was asked "
        "for",
        "learn the last answer only (train.learn=last), or use a chat_template.jinja that appends",
    ),
    "reasoning": Rule(
        "refuse",
        "the prompt for an answer opens a block of reasoning that the answer does not close",
        "write the reasoning and its closing tag before the answer, or use a chat_template.jinja whose generation "
        "prompt opens none",
    ),
    "closed_reasoning": Rule(
        "refuse",
        "the prompt for an answer closes an empty block of reasoning, which the row does not have there: the model "
        "would be asked with what it never learnt",
        "remove reasoning from the answers, learn the last one only (train.learn=last), or use a chat_template.jinja "
        "that writes rows and prompts alike (many have a variable enable_thinking: set its default)",
    ),
    "uneven_reasoning": Rule(
        "warn",
        "the chat template opens some answers of a conversation with an empty block of reasoning and others not: the "
        "model learns both",
        "learn the last answer only (train.learn=last), or use a chat_template.jinja that writes all alike",
    ),
    "calls_dropped": Rule(
        "refuse",
        "the chat template does not write the tool calls of an answer, so that an answer without them would be learnt",
        "use a model or a chat_template.jinja with tool calls, or write the calls as the answer's text",
    ),
    "context_dropped": Rule(
        "warn",
        "the chat template leaves out tools, or earlier calls of tools, that the row has",
        "no need to act if they are served so, too; else use a model or a chat_template.jinja with tools",
    ),
    "merged": Rule(
        "refuse",
        "the answer's first characters and the prompt's last ones are one token, so that the model is not asked with "
        "what it learnt",
        "delete white space at the start of the answer, or at the end of the template's generation prompt",
    ),
    "too_long": Rule(
        "refuse",
        "the row has more tokens than the trainer's sequence",
        "raise train.pack_length, shorten the row, or cut it (NeMo: train.truncate=true)",
    ),
    "unlearnt": Rule(
        "refuse", "no token is left to learn once the row is cut", "raise train.pack_length, or shorten the prompt"
    ),
    "cut": Rule("warn", "the row is cut at train.pack_length, its answer's end with it", "raise train.pack_length"),
    "changed_answer": Rule(
        "warn",
        "the chat template writes the answer otherwise than the row has it; what it writes is learnt",
        "`slipway data show --row N` shows it; change the row or the template",
    ),
    "next_turn": Rule(
        "warn",
        "the chat template goes on after the end of the answer; that text is not learnt",
        "no need to act, unless the text belongs to the answer",
    ),
    "end_unknown": Rule(
        "warn",
        "the turn ends with a token that the model's files do not list as one to stop at",
        "add its id to eos_token_id in generation_config.json, so that every engine stops there",
    ),
    "system_dropped": Rule(
        "warn",
        "the chat template drops the system prompt",
        "put it into the first user message, or use another template",
    ),
    "system_folded": Rule(
        "warn",
        "the chat template puts the system prompt into a user's turn",
        "no need to act: it is served in the same way",
    ),
    "no_bos": Rule(
        "warn",
        "the tokenizer begins texts with a token that the chat template does not write: some engines add it when they "
        "serve, so the model meets a token that it was not trained with",
        "begin chat_template.jinja with {{ bos_token }}, or set add_bos_token to false in tokenizer_config.json",
    ),
    "few_calibration_tokens": Rule(
        "warn",
        "the training split has fewer tokens than calibration asks for",
        "add rows, or lower quantize.calibration.samples or quantize.calibration.length",
    ),
    "no_calibration": Rule(
        "refuse",
        "the training split has fewer tokens than one calibration sequence",
        "add rows, or lower quantize.calibration.length",
    ),
}


class RowProblem(Exception):  # noqa: N818 (a finding about a row, caught where rows are listed)
    """A row breaks a rule: `kind` is its key in RULES, `detail` what was seen."""

    def __init__(self, kind: str, detail: str) -> None:
        self.kind, self.detail = kind, detail
        super().__init__(f"{RULES[kind].title}: {detail}")
