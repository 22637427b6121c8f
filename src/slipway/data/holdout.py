"""Which templates are held out, and which rows of a split stay under a cap per label.

Templates are put in the order of a hash of seed and name, so that rows added later move no other label's templates. Of
each label's n templates the first max(1, round(test_fraction n)) go to test, the next round(val_fraction n) to val; a
label with one template trains only. `data.draw` n holds out the n-th such choice: whatever the draws before it held out
trains, and is never tested on again, because choices were made with it in view. A template is passed over when it alone
shows some answer shape (the set of the answer's JSON keys): held-out templates measure new wordings of known kinds of
answers. A group made by similarity is passed over when it alone has more rows than the label's test split should have.

Where rows are known from an earlier version of the data (`earlier_rows`), a template keeps the side of its rows then,
test before validation before training, and only templates without such a row are drawn, as many as bring a label to its
shares. `data.draw` says nothing then: what an earlier draw held out trained in that version.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from slipway.config.data import DataConfig
from slipway.data.row_table import I64, RowTable

TRAIN, VAL, TEST = 0, 1, 2
NEW = -1  # a row that the earlier version of the data did not have
Sides = NDArray[np.int8]
GROUP = "group-"  # how the name of a group made by similarity begins
Shape = frozenset[str]


def assign(table: RowTable, rows: I64, config: DataConfig, earlier: Sides | None = None) -> NDArray[np.int8]:
    """The split of each template of the table: TRAIN, VAL or TEST. A template with rows of several labels counts for
    the most frequent. `earlier`: the side that each row of the table had in an earlier version of the data, or NEW."""
    place = np.full(len(table.templates), TRAIN, np.int8)
    keeps = np.full(len(table.templates), NEW, np.int8)
    if earlier is not None:
        np.maximum.at(keeps, table.template[rows], earlier[rows])
    draw = config.draw if earlier is None else 1
    shapes = _shapes(table, rows)
    for label, templates in _templates_of_labels(table, rows).items():
        ordered = sorted(templates, key=lambda t: shuffle_key(config.seed, f"{label}:{table.templates[t]}"))
        tests = max(1, _round(config.test_fraction * len(ordered))) if len(ordered) > 1 else 0
        vals = min(_round(config.val_fraction * len(ordered)), len(ordered) - tests - 1)
        known = {side: [t for t in ordered if keeps[t] == side] for side in (TEST, VAL)}
        tests, vals = max(0, tests - len(known[TEST])), max(0, vals - len(known[VAL]))
        fresh = [t for t in _small(table, rows, ordered, config.test_fraction) if keeps[t] == NEW]
        held = _draw(fresh, ordered, shapes, tests + vals, draw, [*known[TEST], *known[VAL]])
        for side, drawn in ((TEST, held[:tests]), (VAL, held[tests:])):
            place[[*known[side], *drawn]] = side
    return place


def balance(table: RowTable, rows: I64, per_label: int | None, stay: NDArray[np.bool_] | None = None) -> I64:
    """At most `per_label` of these rows of each label, taken from its templates in turn; all of them for None. In
    shuffled order. `stay`: which rows of the table are taken first, and all of them, whatever the number."""
    rows = rows[np.argsort(table.order[rows], kind="stable")]
    if per_label is None or not len(rows):
        return rows
    turn = _occurrence(table.template[rows])
    by_name = np.array(sorted(range(len(table.templates)), key=table.templates.__getitem__))
    rank = np.empty(len(by_name), np.int64)
    rank[by_name] = np.arange(len(by_name))
    stays = np.zeros(len(rows), np.bool_) if stay is None else stay[rows]
    order = np.lexsort((rank[table.template[rows]], turn, ~stays))
    taken = order[(_occurrence(table.label[rows][order]) < per_label) | stays[order]]
    return rows[np.sort(taken)]


def shuffle_key(seed: int, name: str) -> str:
    """What names are shuffled by: depends on the seed and the name only."""
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def _templates_of_labels(table: RowTable, rows: I64) -> dict[str, list[int]]:
    """The templates of each label, by the most frequent label of each, the first by name among equals."""
    codes = table.template[rows].astype(np.int64) * len(table.labels) + table.label[rows]
    pairs, counts = np.unique(codes, return_counts=True)
    template, label = np.divmod(pairs, len(table.labels))
    by_name = {index: rank for rank, index in enumerate(sorted(range(len(table.labels)), key=table.labels.__getitem__))}
    ranks = np.array([by_name[i] for i in range(len(table.labels))])[label]
    order = np.lexsort((ranks, -counts, template))
    first = order[np.concatenate([[True], np.diff(template[order]) != 0])]
    of_label: dict[str, list[int]] = defaultdict(list)
    for t, index in zip(template[first].tolist(), label[first].tolist(), strict=True):
        of_label[table.labels[index]].append(t)
    return of_label


def _shapes(table: RowTable, rows: I64) -> Mapping[int, Sequence[Shape]]:
    """The answer shapes of each template."""
    codes = np.unique(table.template[rows].astype(np.int64) * len(table.shapes) + table.shape[rows])
    shapes: dict[int, list[Shape]] = defaultdict(list)
    for template, shape in zip(*(part.tolist() for part in np.divmod(codes, len(table.shapes))), strict=True):
        shapes[template].append(table.shapes[shape])
    return shapes


def _small(table: RowTable, rows: I64, templates: Sequence[int], share: float) -> Sequence[int]:
    """The templates without the groups made by similarity that have more rows than this share of all together."""
    if not any(table.templates[t].startswith(GROUP) for t in templates):
        return templates
    sizes = np.bincount(table.template[rows], minlength=len(table.templates))
    most = share * sizes[list(templates)].sum()
    return [t for t in templates if sizes[t] <= most or not table.templates[t].startswith(GROUP)]


def _draw(
    fresh: Sequence[int],
    ordered: Sequence[int],
    shapes: Mapping[int, Sequence[Shape]],
    count: int,
    draw: int,
    known: Sequence[int] = (),
) -> list[int]:
    """What the 1-based `draw` holds out of one label's templates beside those that are `known` to be held out; nothing
    once earlier draws have held out all."""
    for _ in range(draw - 1):
        earlier = set(_hold_out(fresh, ordered, shapes, count, known))
        fresh = [template for template in fresh if template not in earlier]
    return _hold_out(fresh, ordered, shapes, count, known)


def _hold_out(
    fresh: Sequence[int],
    ordered: Sequence[int],
    shapes: Mapping[int, Sequence[Shape]],
    count: int,
    known: Sequence[int],
) -> list[int]:
    """The first `count` of the `fresh` templates whose every answer shape some other of all `ordered` ones, left in
    training, shows too: the test asks for new wordings, not for answers that training never saw. The very first one
    when no template qualifies and none is held out yet."""
    in_training = Counter(shape for template in ordered for shape in shapes[template])
    for template in known:
        in_training.subtract(shapes[template])
    held: list[int] = []
    for template in fresh:
        if len(held) < count and all(in_training[shape] > 1 for shape in shapes[template]):
            held.append(template)
            in_training.subtract(shapes[template])
    return held or ([] if known else list(fresh[: min(count, 1)]))


def _occurrence(values: NDArray[np.integer]) -> I64:
    """For each value how many equal ones stand before it."""
    order = np.argsort(values, kind="stable")
    new = np.concatenate([[True], np.diff(values[order]) != 0])
    begins = np.flatnonzero(new)
    count = np.empty(len(values), np.int64)
    count[order] = np.arange(len(values)) - np.repeat(begins, np.diff([*begins, len(values)]))
    return count


def _round(x: float) -> int:
    return int(x + 0.5)
