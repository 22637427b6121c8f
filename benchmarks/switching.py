"""A series of switches behind HAProxy under load: what fails, what is cut, who answers, how long requests wait.

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
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Figures, emit, say
from tests.support.switch_load import SwitchLoad
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
    emit("switching", {way: series(way, args.work, min(args.switches, 5) if way == "naive" else args.switches)
                       for way in args.ways})  # fmt: skip


def series(way: str, work: Path, switches: int) -> Figures:
    """One series of switches: figures of its load, and seconds of a whole switch, draining included."""
    seconds = []
    names = releases()
    with SwitchSite(Path(tempfile.mkdtemp(dir=work)) / "proxy") as site:
        site.serve(next(names))
        with SwitchLoad(site.settings.host, site.settings.port, events=30) as load:
            load.wait_for(30)
            for number in range(switches):
                name, started = next(names), time.monotonic()
                if way == "held":
                    site.held(name, LOAD_S)
                else:
                    getattr(site, way)(name)
                seconds.append(time.monotonic() - started)
                load.wait_for(30)
                say(f"{way}: switch {number + 1} to {name} in {seconds[-1]:.1f} s")
        report = load.report(site.pointer)
    per_step = [f"{name}: {dict(counts)}" for name, counts in load.per_step(site.pointer)]
    total = {"switches": switches, "failed_in_all": sum(report["failed"].values()), "strays": len(report["strays"])}
    times = {"switch_s_median": round(statistics.median(seconds), 2), "switch_s_longest": round(max(seconds), 2)}
    engines: Counter[str] = Counter(report["engines"])
    return {**report, **total, **times, "engines": len(engines), "per_step": per_step}


def releases() -> Iterator[str]:
    """Names of releases: 0001, three promotions, back to the one before, three promotions ..."""
    newest = 1
    yield "0001"
    while True:
        for _ in range(3):
            newest += 1
            yield f"{newest:04d}"
        yield f"{newest - 1:04d}"


if __name__ == "__main__":
    main()
