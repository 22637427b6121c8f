"""A series of promotions and rollbacks behind HAProxy under load, by the verbs of a target's agent: what fails, what is
cut, who answers, how long requests wait. Exit 1 when anything fails, or the control sees nothing fail.

`python -m benchmarks.switching --work DIR`, some 8 minutes on two cores; `--switches 4` for less.

Load: 20 streams at any time, each of 3 s or more, and three callers of short POSTs, one on a new connection each time,
two on kept ones. Engines are `tests/support/stream_engine.py`, which close idle connections after a second; each
answers its own name. Three promotions, then a rollback, and so on. Ways: `beside`; `held`, the new engine after the old
one, 2 s to load; `naive`, the control: the old process is stopped and the new one started at its port (5 of them).

`failed` counts everything that is not a whole answer of status 200, a stream without `[DONE]` included; `strays`,
answers of an engine that the pointer did not name at any moment between sending and first byte; `per_step`, answers
sent and begun while one release was pointed at, by engine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.measure import Figures, emit, say
from tests.support.switch_agent import switch_agent
from tests.support.switch_load import Pointer, SwitchLoad
from tests.support.switch_site import SwitchSite

WAYS = ("beside", "held", "naive")
LOAD_S = 2.0


def main() -> None:
    """Run each way and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--switches", type=int, default=20)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    counts = {way: min(args.switches, 5) if way == "naive" else args.switches for way in args.ways}
    results = {way: series(way, args.work, count) for way, count in counts.items()}
    emit("switching", results)
    faults = {way: result["failed_in_all"] + result["strays"] for way, result in results.items()}
    sys.exit(any(faults[way] for way in faults if way != "naive") or faults.get("naive") == 0)


def series(way: str, work: Path, switches: int) -> Figures:
    """One series of switches: figures of its load, and seconds of a whole switch, draining included."""
    folder = Path(tempfile.mkdtemp(dir=work))
    if way == "naive":
        with SwitchSite(folder / "proxy") as site:
            site.serve("0001")
            return measured(way, switches, site.settings.port, site.pointer, lambda _, name: site.naive(name))
    with switch_agent(folder, way=way, load_s=LOAD_S if way == "held" else 0) as target:
        target.promote("0001")
        return measured(way, switches, target.port, target.pointer, lambda action, name: getattr(target, action)(name))


def measured(way: str, switches: int, port: int, pointer: Pointer, change: Callable[[str, str], object]) -> Figures:
    """The load's figures while `change` is called with an action and a version, `switches` times."""
    seconds, steps = [], releases()
    with SwitchLoad("127.0.0.1", port, events=30) as load:
        load.wait_for(30)
        for number in range(switches):
            (action, name), started = next(steps), time.monotonic()
            change(action, name)
            seconds.append(time.monotonic() - started)
            load.wait_for(30)
            say(f"{way}: {number + 1}, {action} {name} in {seconds[-1]:.1f} s")
    report = load.report(pointer)
    per_step = [f"{name}: {dict(counts)}" for name, counts in load.per_step(pointer)]
    total = {"switches": switches, "failed_in_all": sum(report["failed"].values()), "strays": len(report["strays"])}
    times = {"switch_s_median": round(statistics.median(seconds), 2), "switch_s_longest": round(max(seconds), 2)}
    return {**report, **total, **times, "engines": len(report["engines"]), "per_step": per_step}


def releases() -> Iterator[tuple[str, str]]:
    """After 0001: three promotions, back to the one before, three promotions ..."""
    newest = 1
    while True:
        for _ in range(3):
            newest += 1
            yield "promote", f"{newest:04d}"
        yield "rollback", f"{newest - 1:04d}"


if __name__ == "__main__":
    main()
