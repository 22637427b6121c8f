"""Write the words that commands are made of: those of the corpus's own template language, without names and values.

An agent that is asked about things outside it ("the conservatory") meets a word of neither this list nor its home, and
asks instead of acting. The list is of the whole language of the pinned package, not of the rows of any split.

    python -m scripts.agent_words --out src/slipway/agents/words.txt
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hassil import expression as h
from hassil.intents import Intents, TextSlotList
from hassil.parse_expression import parse_sentence

from scripts.corpus import check_pins, read_home, read_intents, templates

OWN = ("area", "floor", "zone", "timer_name", "timer_command", "search_query", "name")  # lists that are the home's
WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")


def texts(node: Any, intents: Intents, seen: set[str]) -> Iterator[str]:
    """Every run of text in an expression, each rule and list once."""
    match node:
        case h.TextChunk():
            yield node.original_text
        case h.RuleReference():
            if node.rule_name not in seen:
                seen.add(node.rule_name)
                yield from texts(intents.expansion_rules[node.rule_name].expression, intents, seen)
        case h.ListReference():
            values = intents.slot_lists[node.list_name]
            if node.list_name not in OWN and node.list_name not in seen and isinstance(values, TextSlotList):
                seen.add(node.list_name)
                for value in values.values:
                    yield from texts(value.text_in, intents, seen)
        case h.Group():
            # options of one word stand against the text beside them: shut[ting] is two words
            yield joined(node)
            for item in node.items:
                yield from texts(item, intents, seen)


def joined(node: h.Group) -> str:
    """The text of a group whose parts touch, each alternative written out: `shut[ting]` is shut and shutting."""
    forms = [""]
    for item in node.items:
        if isinstance(item, h.TextChunk):
            options = [item.original_text]
        elif isinstance(item, h.Alternative):
            options = [part.original_text for one in item.items for part in _chunks(one)] or [" "]
            options += [""] if any(not part.strip() for part in options) or item.is_optional else []
        else:
            options = [" "]
        forms = [form + option for form in forms for option in options][:200]
    return " ".join(forms)


def _chunks(node: Any) -> list[h.TextChunk]:
    if isinstance(node, h.TextChunk):
        return [node]
    return [one for one in node.items if isinstance(one, h.TextChunk)] if isinstance(node, h.Group) else []


def words(home_file: Path) -> list[str]:
    """The words in order of the alphabet."""
    intents = read_intents(read_home(home_file))
    seen: set[str] = set()
    nodes = [parse_sentence(one.text).expression for one in templates(intents)]
    return sorted(
        {word for node in nodes for text in texts(node, intents, seen) for word in WORD.findall(text.lower())}
    )


def main() -> None:
    """Write the list, a word a line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    args = parser.parse_args()
    check_pins()
    args.out.write_text("\n".join(words(Path(__file__).with_name("home.yaml"))) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
