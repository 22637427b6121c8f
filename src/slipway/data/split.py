"""Prepared rows -> train, val, test, with whole templates held out, so that the test set measures new wordings.

Templates are put in the order of a hash of seed and name, so that rows added later move no other label's templates. Of
each label's n templates the first max(1, round(test_fraction n)) go to test, the next round(val_fraction n) to val; a
label with one template trains only. `data.draw` n holds out the n-th such choice: whatever the draws before it held out
trains, and is never tested on again, because choices were made with it in view. A template is passed over when it alone
shows some answer shape (the set of the answer's JSON keys): held-out templates measure new wordings of known kinds of
answers. A split then takes rows from its templates in turn, up to a cap per label where the
config sets one.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from slipway.config.data import DataConfig
from slipway.data.near_duplicates import NearIndex
from slipway.data.rows import Row, answer_json, normalised
from slipway.errors import DataError

NAMES = ("train", "val", "test")
Shape = frozenset[str]


@dataclass(frozen=True)
class Splits:
    """Rows of each split in a shuffled order that depends on the seed only, and what was left out."""

    train: list[Row]
    val: list[Row]
    test: list[Row]
    counts: dict[str, int]

    def __getitem__(self, name: str) -> list[Row]:
        return {"train": self.train, "val": self.val, "test": self.test}[name]


def split(rows: Sequence[Row], config: DataConfig) -> Splits:
    """Hold out templates, balance labels, drop training rows that resemble held-out ones, and prove that nothing
    leaks."""
    place = assign(rows, config)
    parts = {name: [row for row in rows if place[row["template"]] == name] for name in NAMES}
    caps = (config.per_label, config.val_per_label, config.test_per_label)
    train_cap, val_cap, test_cap = (len(rows) if cap is None else cap for cap in caps)
    test = balance(parts["test"], test_cap, config.seed)
    clear_val = _unlike(parts["val"], test, config)
    val = balance(clear_val, val_cap, config.seed)
    clear_train = _unlike(parts["train"], [*test, *val], config)
    train = balance(clear_train, train_cap, config.seed)
    alike = len(parts["val"]) - len(clear_val) + len(parts["train"]) - len(clear_train)
    counts = {
        "resembling_held_out": alike,
        "over_per_label": len(rows) - alike - len(train) - len(val) - len(test),
        "templates": len(place),
        "held_out_templates": sum(name == "test" for name in place.values()),
        "labels_without_test": len({r["label"] for r in rows} - {r["label"] for r in test}),
    }
    splits = Splits(train, val, test, counts)
    prove(splits, config.near_duplicate)
    return splits


def assign(rows: Iterable[Row], config: DataConfig) -> dict[str, str]:
    """The split of each template. A template with rows of several labels counts for the most frequent."""
    labels: dict[str, Counter[str]] = defaultdict(Counter)
    shapes: dict[str, set[Shape]] = defaultdict(set)
    for row in rows:
        labels[row["template"]][row["label"]] += 1
        shapes[row["template"]].add(frozenset(answer_json(row) or ()))
    of_label: dict[str, list[str]] = defaultdict(list)
    for template, counts in labels.items():
        of_label[min(counts, key=lambda label: (-counts[label], label))].append(template)
    place: dict[str, str] = {}
    for label, templates in of_label.items():
        ordered = sorted(templates, key=lambda t: _shuffle_key(config.seed, f"{label}:{t}"))
        tests = max(1, _round(config.test_fraction * len(ordered))) if len(ordered) > 1 else 0
        vals = min(_round(config.val_fraction * len(ordered)), len(ordered) - tests - 1)
        held = _draw(ordered, shapes, tests + vals, config.draw)
        place |= (
            dict.fromkeys(ordered, "train") | dict.fromkeys(held[tests:], "val") | dict.fromkeys(held[:tests], "test")
        )
    return place


def _draw(ordered: Sequence[str], shapes: Mapping[str, set[Shape]], count: int, draw: int) -> list[str]:
    """What the 1-based `draw` holds out of one label's templates; nothing once earlier draws have held out all."""
    fresh = list(ordered)
    for _ in range(draw - 1):
        earlier = _hold_out(fresh, ordered, shapes, count)
        fresh = [template for template in fresh if template not in earlier]
    return _hold_out(fresh, ordered, shapes, count)


def _hold_out(fresh: Sequence[str], ordered: Sequence[str], shapes: Mapping[str, set[Shape]], count: int) -> list[str]:
    """The first `count` of the `fresh` templates whose every answer shape some other of all `ordered` ones, left in
    training, shows too: the test asks for new wordings, not for answers that training never saw. The very first one
    when no template qualifies."""
    in_training = Counter(shape for template in ordered for shape in shapes[template])
    held: list[str] = []
    for template in fresh:
        if len(held) < count and all(in_training[shape] > 1 for shape in shapes[template]):
            held.append(template)
            in_training.subtract(shapes[template])
    return held or list(fresh[: min(count, 1)])


def balance(rows: Iterable[Row], per_label: int, seed: int) -> list[Row]:
    """At most `per_label` rows of each label, taken from its templates in turn; then all shuffled."""
    taken_of: Counter[str] = Counter()
    turns: dict[str, list[tuple[int, str, Row]]] = defaultdict(list)
    for row in sorted(rows, key=lambda r: _shuffle_key(seed, r["id"])):
        turns[row["label"]].append((taken_of[row["template"]], row["template"], row))
        taken_of[row["template"]] += 1
    taken = [row for of in turns.values() for _, _, row in sorted(of, key=lambda turn: turn[:2])[:per_label]]
    return sorted(taken, key=lambda r: _shuffle_key(seed, r["id"]))


def prove(splits: Splits, threshold: float) -> None:
    """Raise DataError when two splits share a template or a text, or hold near duplicates with one answer, or train or
    test is empty."""
    for name in ("train", "test"):
        if not splits[name]:
            raise DataError(
                f"{name} split",
                "empty",
                "rows of labels with two templates or more",
                "add rows with other wordings, or set `template`",
            )
    for source, held in (("train", "test"), ("train", "val"), ("val", "test")):
        for what, key in (("template", lambda r: r["template"]), ("text", normalised)):
            if shared := {key(r) for r in splits[source]} & {key(r) for r in splits[held]}:
                raise _leak(source, held, f"{len(shared)} shared {what}s, such as {min(shared)!r}")
        index = NearIndex([*splits[source], *splits[held]], threshold)
        for row in splits[source]:
            index.add(row)
        for row in splits[held]:
            if twin := index.find(row):
                raise _leak(source, held, f"{row['id']} is a near duplicate of {twin['id']}")


def _leak(source: str, held: str, what: str) -> DataError:
    return DataError(
        f"leak between {source} and {held}", what, "splits that share nothing", "run prepare again from the raw rows"
    )


def _unlike(rows: Iterable[Row], held: Sequence[Row], config: DataConfig) -> list[Row]:
    """The rows that share no text and no near duplicate with held-out rows."""
    rows = list(rows)
    texts = {normalised(row) for row in held}
    index = NearIndex([*rows, *held], config.near_duplicate)
    for row in held:
        index.add(row)
    return [row for row in rows if normalised(row) not in texts and index.find(row) is None]


def _round(x: float) -> int:
    return int(x + 0.5)


def _shuffle_key(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
