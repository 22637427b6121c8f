"""Items of an evaluation made several at a time, each on the disk before the next progress report: an evaluation that
was interrupted goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from slipway.system.files import write_atomic
from slipway.system.progress import Progress

Made = dict[str, Any]


def resumable(
    work: Mapping[str, Callable[[], Made]],
    slots: int,
    partial: Path,
    progress: Progress,
    unit: str,
    figures: Callable[[Sequence[Made]], Mapping[str, float]],
) -> dict[str, Made]:
    """What each of `work` returns, by its id and in its order. `slots`: at a time; `partial`: the file that keeps what
    is done; `unit`: what they are, in the plural; `figures`: shown beside the progress, of what is done so far. Raises
    what the work raises."""
    done = _done_before(partial)
    if done:
        progress.note(f"{len(done)} {unit} were done before the interruption")
    pool = ThreadPoolExecutor(slots)
    try:
        open_work = {pool.submit(one): name for name, one in work.items() if name not in done}
        with partial.open("a", buffering=1, encoding="utf-8", newline="\n") as out:
            for future in as_completed(open_work):
                if future.exception():  # what ended beside it is kept first
                    for ended, name in open_work.items():
                        if ended.done() and not ended.exception() and name not in done:
                            out.write(_line(name, ended.result()))
                name = open_work[future]
                done[name] = future.result()
                out.write(_line(name, done[name]))
                shown = {key: round(value, 4) for key, value in figures(list(done.values())).items()}
                progress.update("evaluate", len(done), len(work), unit, **shown)
    finally:  # not waited for: what serves is stopped next
        pool.shutdown(wait=False, cancel_futures=True)
    return {name: done[name] for name in work}


def _line(name: str, made: Made) -> str:
    return json.dumps({"id": name, "made": made}) + "\n"


def _done_before(partial: Path) -> dict[str, Made]:
    """What an interrupted evaluation kept; a half-written last line is cut off."""
    if not partial.exists():
        return {}
    whole = partial.read_bytes().rpartition(b"\n")[0]
    write_atomic(partial, (whole + b"\n" if whole else b"").decode("ascii"))
    rows = [json.loads(line) for line in whole.split(b"\n") if line]
    return {row["id"]: row["made"] for row in rows}
