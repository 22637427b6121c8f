"""The stage `prepare` on many rows: seconds, processor seconds and peak memory of its process, and where rows went.

`python -m benchmarks.prepare --work DIR --rows 1000000`: some minutes on two cores. `--kind text` are questions and
answers in free text, words drawn as often as words are (Zipf), of which every twentieth row repeats an earlier prompt
with a word changed and every fiftieth an earlier row; `--kind commands` are written from 2,000 templates with few
values and answered by one of twenty labels, the hard case for near duplicates. The tokenizer is a byte-level BPE of
8,000 pieces, trained here on the first rows, with a ChatML template.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

from benchmarks.measure import emit, run, say

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VOCABULARY, TEMPLATES, LABELS = 50_000, 2_000, 20
SYLLABLES = "ba ce di fo gu ha je ki lo mu na pe qui ro su ta ve wi xo yu za".split()  # noqa: SIM905


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="everything is written here")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--kind", choices=("text", "commands"), default="text")
    parser.add_argument("--stage", action="store_true", help="run the stage alone, on what is there")
    args = parser.parse_args()
    raw, model = args.work / f"{args.kind}.jsonl", args.work / "model"
    if args.stage:
        stage(raw, model, args.work)
        return
    args.work.mkdir(parents=True, exist_ok=True)
    say(f"writing {args.rows:,} rows")
    write(raw, args.rows, args.kind)
    write_tokenizer(raw, model)
    command = [sys.executable, "-m", "benchmarks.prepare", "--stage", "--work", str(args.work), "--kind", args.kind]
    figures = run(command, args.work / "log", cores=(0, 1))
    emit("prepare", {"kind": args.kind, "rows": args.rows, "raw_gb": round(raw.stat().st_size / 1e9, 3), **figures})


def write(path: Path, rows: int, kind: str) -> None:
    """Write rows of a kind; the same arguments give the same bytes."""
    with path.open("w", encoding="utf-8") as file:
        for ask, answer in {"text": texts, "commands": commands}[kind](rows):
            messages = [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": messages}) + "\n")


def texts(rows: int) -> Iterator[tuple[str, str]]:
    """Free text; some rows repeat an earlier one, or its prompt with a word changed."""
    draw = random.Random(1)
    weights = list(accumulate(1 / (rank + 3) for rank in range(VOCABULARY)))
    vocabulary = words(draw, VOCABULARY)
    earlier: list[tuple[str, str]] = []
    for number in range(rows):
        ask, answer = (" ".join(draw.choices(vocabulary, cum_weights=weights, k=draw.randint(8, 30))) for _ in range(2))
        if number % 50 == 49:
            ask, answer = draw.choice(earlier)
        elif number % 20 == 19:
            pieces = draw.choice(earlier)[0].split()
            pieces[draw.randrange(len(pieces))] = draw.choice(vocabulary)
            ask = " ".join(pieces)
        if len(earlier) < 50_000:
            earlier.append((ask, answer))
        yield ask, answer


def commands(rows: int) -> Iterator[tuple[str, str]]:
    """Commands from templates with two values, and the label of the template."""
    draw = random.Random(1)
    vocabulary, values = words(draw, 500), words(draw, 300)
    templates = [" ".join(draw.choices(vocabulary, k=draw.randint(3, 9))) for _ in range(TEMPLATES)]
    for _ in range(rows):
        index = draw.randrange(TEMPLATES)
        first, second = draw.choices(values, k=2)
        yield f"{templates[index]} {first} and {second}", f"label-{index % LABELS}"


def words(draw: random.Random, count: int) -> list[str]:
    """Words of one to four syllables."""
    return ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 4))) for _ in range(count)]


def write_tokenizer(raw: Path, model: Path) -> None:
    """A tokenizer with a chat template, trained on the first rows."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=8000,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    with raw.open(encoding="utf-8") as file:
        tokenizer.train_from_iterator((line for line, _ in zip(file, range(20_000), strict=False)), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>")
    fast.chat_template = CHATML
    fast.save_pretrained(str(model))


def stage(raw: Path, model: Path, work: Path) -> None:
    """Run the stage in this process; its figures on the last line."""
    from slipway.config.data import DataConfig
    from slipway.pipeline.workspace import Workspace
    from slipway.stages.prepare import prepare, prepare_params
    from slipway.store.artifacts import Checkpoint
    from slipway.system.progress import Progress

    space = Workspace(work / "out", work / "scratch", work / "cache", Progress(work / "progress.jsonl"))
    for folder in (space.out, space.work):
        folder.mkdir(exist_ok=True)
    start = time.monotonic()
    params = prepare_params(DataConfig(raw=str(raw)), work)
    prepare(Checkpoint(uri=str(model), digest="0"), params, space)
    seconds = time.monotonic() - start
    funnel = json.loads((space.out / "summary.json").read_text(encoding="utf-8"))["funnel"]
    steps = {step["reason"]: step["rows"] for step in funnel["steps"]}
    splits = {share["split"]: share["rows"] for share in funnel["shares"]}
    tokens = sum(share["tokens"] for share in funnel["shares"])
    print(json.dumps({"seconds": round(seconds, 1), "tokens": tokens, "steps": steps, "splits": splits}))


if __name__ == "__main__":
    main()
