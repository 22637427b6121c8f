"""Which tokens of a chat row are learnt: one answer for `slipway data show`, the checks of prepare and both trainers.

With W the whole conversation as the chat template writes it, and P_i the messages before answer i with the header of
the assistant's turn (what an engine is asked with), answer i is learnt from the end of P_i up to its end of turn:

    text      W starts with P_i, else the row is refused (`rewritten`, `reasoning`)
    tokens    tok(W) starts with tok(P_i), n tokens, else refused (`merged`): the model is asked with what it learnt
    end       the first token after n at which generation stops; none before the next turn: refused (`no_end`)
    labels    tok(W)[n : end + 1]; role headers, and what the template writes after the end, are not learnt

`train.learn=all` learns every answer, `last` the last one. An earlier answer before which the template rewrites history
(Qwen3 drops old reasoning) is taken from the template's own `{% generation %}` marks where it has them. Tokens after
the last learnt one teach nothing and are left out of the row.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from slipway.data.chat_template import ChatTemplate
from slipway.data.messages import calls_of
from slipway.data.problems import RULES, RowProblem
from slipway.data.reasoning import CLOSED, CLOSED_EMPTY, LEFT_OPEN, OPENED
from slipway.data.rows import Row
from slipway.data.text_checks import check_texts
from slipway.errors import DataError

Learn = Literal["all", "last"]
BATCH = 512  # rows rendered before their texts are tokenized together, by all cores
_SHOWN = 80
# Stands for the next message's text, to see where the template begins it: in no data, and no template trims it
_PROBE = "\ue000"


@dataclass(frozen=True)
class LabelledRow:
    """A row as tokens; `spans` are the ranges [start, end) that the model learns to write, in order. `warnings` are
    problems that do not keep it from being learnt."""

    tokens: list[int]
    spans: tuple[tuple[int, int], ...]
    warnings: tuple[RowProblem, ...] = ()

    @property
    def label_tokens(self) -> int:
        """Tokens that are learnt, ends of turns included."""
        return sum(end - start for start, end in self.spans)

    @property
    def inputs(self) -> list[int]:
        """The tokens from which something is predicted: all but the last."""
        return self.tokens[:-1]

    @property
    def shareable(self) -> int:
        """How many first tokens other rows may share in a pack: those from which nothing learnt is predicted."""
        return max(0, self.spans[0][0] - 1)

    def labels(self, ignored: int) -> list[int]:
        """The row's tokens where they are learnt, `ignored` elsewhere."""
        labels = [ignored] * len(self.tokens)
        for start, end in self.spans:
            labels[start:end] = self.tokens[start:end]
        return labels

    def cut(self, length: int) -> LabelledRow:
        """The first `length` tokens, with what is learnt of them."""
        if len(self.tokens) <= length:
            return self
        spans = tuple((start, min(end, length)) for start, end in self.spans if start < length)
        return replace(self, tokens=self.tokens[:length], spans=spans)


def label_rows(rows: Iterable[Row], template: ChatTemplate, learn: Learn) -> Iterator[LabelledRow | RowProblem]:
    """Each row with its labels, or why it cannot be learnt, in the rows' order."""
    source = iter(rows)
    while batch := list(itertools.islice(source, BATCH)):
        yield from _label_batch(batch, template, learn)


def learnable_rows(
    rows: Iterable[Row], template: ChatTemplate, learn: Learn, longest: int, *, truncate: bool = False
) -> list[LabelledRow]:
    """Rows with their labels, for a trainer with sequences of `longest` tokens. With `truncate` longer rows are cut.

    Raises DataError for the first row that cannot be learnt or is longer.
    """
    source, labelled = list(rows), list[LabelledRow]()
    for row, result in zip(source, label_rows(source, template, learn), strict=True):
        problem = result if isinstance(result, RowProblem) else length_problem(result, longest, truncate=truncate)
        if problem and RULES[problem.kind].outcome == "refuse":
            raise as_error(row, problem)
        assert isinstance(result, LabelledRow)
        labelled.append(result.cut(longest))
    return labelled


def length_problem(row: LabelledRow, longest: int, *, truncate: bool) -> RowProblem | None:
    """What a sequence of `longest` tokens does to the row: nothing (None), too long, cut, or cut before its answer."""
    detail = f"{len(row.tokens)} tokens, train.pack_length={longest}"
    if len(row.tokens) <= longest:
        return None
    if not truncate:
        return RowProblem("too_long", detail)
    return RowProblem("cut", detail) if row.cut(longest).label_tokens else RowProblem("unlearnt", detail)


def as_error(row: Row, problem: RowProblem) -> DataError:
    """The error for a row by itself."""
    rule = RULES[problem.kind]
    return DataError(
        f"row {row.get('id')}", f"{rule.title}: {problem.detail}", "a row that can be learnt", rule.way_out
    )


@dataclass(frozen=True)
class _Turn:
    """One answer in the whole text: the prompt before it, the id of the token that ends it, and whether a block of
    reasoning opens it as the template has it, and as the row has it."""

    prompt: str
    stop: int
    reasons: bool
    reasons_in_row: bool


@dataclass(frozen=True)
class _Rendered:
    """A row as text. `turns` holds None for an answer that only the template's own marks place."""

    whole: str
    turns: list[_Turn | None]
    runs: list[tuple[int, int]]
    warnings: list[RowProblem]


def _label_batch(rows: Sequence[Row], template: ChatTemplate, learn: Learn) -> Iterator[LabelledRow | RowProblem]:
    rendered = [_attempt(row, template, learn) for row in rows]
    texts = [text for one in rendered if isinstance(one, _Rendered) for text in _texts(one)]
    ids = iter(template.encode(texts))
    for one in rendered:
        if isinstance(one, RowProblem):
            yield one
            continue
        whole, *prompts = (next(ids) for _ in _texts(one))
        try:
            yield _place(one, whole, prompts, template)
        except RowProblem as problem:
            yield problem


def _texts(row: _Rendered) -> list[str]:
    return [row.whole, *(turn.prompt for turn in row.turns if turn)]


def _attempt(row: Row, template: ChatTemplate, learn: Learn) -> _Rendered | RowProblem:
    try:
        check_texts(row, template)
        return _render(row, template, learn)
    except RowProblem as problem:
        return problem


def _render(row: Row, template: ChatTemplate, learn: Learn) -> _Rendered:
    messages, tools = row["messages"], row.get("tools")
    whole = template.render(messages, tools, prompt=False)
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    chosen = answers if learn == "all" else answers[-1:]
    warnings: list[RowProblem] = []
    turns = [_turn(row, i, whole, template, warnings) for i in chosen]
    earlier = [call for message in messages for call in calls_of(message)]
    if dropped := _unwritten([*earlier, *(tool["function"] for tool in tools or ())], whole):
        warnings.append(RowProblem("context_dropped", dropped))
    added = [turn.reasons for turn in turns if turn and not turn.reasons_in_row]
    if any(added) and not all(added):
        warnings.append(RowProblem("uneven_reasoning", f"{sum(added)} of {len(added)} answers"))
    runs = template.generation_runs(messages, tools) if None in turns else None
    if None in turns and (runs is None or len(runs) != len(answers)):
        raise RowProblem("rewritten", f"messages before answer {turns.index(None) + 1}")
    return _Rendered(whole, turns, (runs or [])[-len(chosen) :], warnings)


def _turn(row: Row, i: int, whole: str, template: ChatTemplate, warnings: list[RowProblem]) -> _Turn | None:
    """The answer `messages[i]` in the whole text; None when what comes before it was rewritten, and it is not the
    last."""
    messages, tools = row["messages"], row.get("tools")
    prompt, last = template.render(messages[:i], tools, prompt=True), i == len(messages) - 1
    opened = LEFT_OPEN.search(prompt)
    if not whole.startswith(prompt):
        if opened:
            raise RowProblem("reasoning", repr(prompt[-_SHOWN:]))
        closed = CLOSED_EMPTY.search(prompt)
        if closed and whole.startswith(prompt[: closed.start()]):
            raise RowProblem("closed_reasoning", f"answer {_nth(messages, i)}: the prompt ends {prompt[-_SHOWN:]!r}")
        if last:
            raise RowProblem("rewritten", f"the prompt ends with {prompt[-_SHOWN:]!r}")
        return None
    limit = len(whole) if last else _limit(messages, i, tools, whole, template)
    stop, end = _end(whole, len(prompt), limit, template, warnings)
    answer, content = whole[len(prompt) : end], messages[i].get("content")
    if opened and (answer.lstrip().startswith("</") or not CLOSED.search(answer)):
        raise RowProblem("reasoning", repr(prompt[-_SHOWN:]))
    if dropped := _unwritten(calls_of(messages[i]), answer):
        raise RowProblem(
            "calls_dropped", f"answer {_nth(messages, i)} calls {dropped}, the template writes {answer[:_SHOWN]!r}"
        )
    if isinstance(content, str) and content.strip() not in answer:
        warnings.append(RowProblem("changed_answer", repr(answer[:_SHOWN])))
    if last and (rest := _without_ends(whole[end:], template)):
        warnings.append(RowProblem("next_turn", repr(rest[:_SHOWN])))
    return _Turn(prompt, stop, bool(OPENED.match(answer)), bool(OPENED.match(str(content))))


def _unwritten(functions: Iterable[Mapping[str, Any]], text: str) -> str | None:
    """The name of the first function that does not stand in a text as a word, as it is or as JSON escapes it."""
    for name in (function["name"] for function in functions):
        spellings = "|".join(re.escape(spelt) for spelt in {name, json.dumps(name)[1:-1]})
        if not re.search(rf"(?<!\w)({spellings})(?!\w)", text):
            return str(name)
    return None


def _nth(messages: Sequence[Any], i: int) -> int:
    """Which answer `messages[i]` is, from 1."""
    return sum(message["role"] == "assistant" for message in messages[: i + 1])


def _limit(messages: Sequence[Any], i: int, tools: Any, whole: str, template: ChatTemplate) -> int:
    """Where the text of the message after answer `i` begins in the whole: an end of turn beyond it is another's."""
    probe = [*messages[: i + 1], {**messages[i + 1], "content": _PROBE}]
    try:
        beginning = template.render(probe, tools, prompt=False).partition(_PROBE)[0]
    except RowProblem:
        return len(whole)
    return next(
        (n for n, (one, other) in enumerate(zip(beginning, whole, strict=False)) if one != other), len(beginning)
    )


def _end(whole: str, start: int, limit: int, template: ChatTemplate, warnings: list[RowProblem]) -> tuple[int, int]:
    """Id of the token that ends the answer between two characters of the text, and the character after it."""
    for tokens in (template.stops, template.ends):
        places = [(whole.find(text, start, limit), id_) for id_, text in tokens.items()]
        if reached := min((place for place in places if place[0] >= 0), default=None):
            place, id_ = reached
            if id_ not in template.stops:
                warnings.append(RowProblem("end_unknown", f"{tokens[id_]} ({id_})"))
            return id_, place + len(tokens[id_])
    raise RowProblem("no_end", f"the answer is followed by {whole[start:limit][-_SHOWN:]!r}")


def _without_ends(text: str, template: ChatTemplate) -> str:
    for token in (*template.stops.values(), *template.ends.values()):
        text = text.replace(token, "")
    return text.strip()


def _place(row: _Rendered, whole: list[int], prompts: Sequence[list[int]], template: ChatTemplate) -> LabelledRow:
    """The learnt ranges of a row's tokens."""
    remaining, spans = iter(prompts), []
    for number, turn in enumerate(row.turns):
        if turn is None:
            spans.append(_marked(row.runs[number], whole, template))
            continue
        prompt = next(remaining)
        n = len(prompt)
        if whole[:n] != prompt:
            raise RowProblem("merged", _difference(whole, prompt, template))
        if turn.stop not in whole[n:]:
            raise RowProblem("no_end", f"its text has {template.tokenizer.decode([turn.stop])!r}, its tokens have not")
        spans.append((n, whole.index(turn.stop, n) + 1))
    return LabelledRow(whole[: spans[-1][1]], tuple(spans), tuple(row.warnings))


def _marked(run: tuple[int, int], whole: list[int], template: ChatTemplate) -> tuple[int, int]:
    """A range that the template marks, up to its end of turn."""
    start, end = run
    stop = next((i for i in range(start, end) if whole[i] in template.stops or whole[i] in template.ends), None)
    if stop is None:
        raise RowProblem("no_end", "the template's {% generation %} block holds no end of turn")
    return start, stop + 1


def _difference(whole: Sequence[int], prompt: Sequence[int], template: ChatTemplate) -> str:
    """The tokens where prompt and row part, as text."""
    at = next((i for i, (one, other) in enumerate(zip(prompt, whole, strict=False)) if one != other), len(whole))
    asked, learnt = (template.tokenizer.decode(list(ids[at : at + 3])) for ids in (prompt, whole))
    return f"the prompt has {asked!r} where the row has {learnt!r}"
