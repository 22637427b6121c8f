"""What a person sees while `slipway tune` probes: one row a probe, live on a terminal, a line each elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from slipway.training.tuning.search import SearchResult
from slipway.training.tuning.setting import Result

COLUMNS = ("packs", "recompute", "attention", "loss", "tokens/s", "+-", "GiB reserved", "steps", "seconds", "")
STYLES = {"ok": "", "slower": "dim", "oom": "yellow", "too_big": "yellow", "error": "red"}
WORDS = {
    "ok": "",
    "slower": "given up: slower",
    "oom": "does not fit",
    "too_big": "above the target's memory",
    "error": "died",
}


@contextmanager
def table(console: Console) -> Iterator[Callable[[Result], None]]:
    """A function that takes each result as it comes; the fastest that fits is bold."""
    results: list[Result] = []
    if not console.is_terminal:
        yield lambda result: console.print(line(result), highlight=False, markup=False, soft_wrap=True)
        return
    with Live(render(results), console=console) as live:

        def look(result: Result) -> None:
            results.append(result)
            live.update(render(results))

        yield look


def render(results: list[Result]) -> Table:
    shown = Table(*COLUMNS, box=None, pad_edge=False, header_style="bold", title_justify="left")
    best = max((r.tokens_per_s for r in results if r.status == "ok"), default=0.0)
    for r in results:
        bold = "bold green" if r.status == "ok" and r.tokens_per_s == best else STYLES[r.status]
        shown.add_row(*cells(r), style=bold)
    return shown


def cells(r: Result) -> tuple[str, ...]:
    s = r.setting
    speed = (f"{r.tokens_per_s:,.0f}", f"{(r.high - r.low) / 2:,.0f}") if r.tokens_per_s else ("", "")
    memory = f"{r.reserved / 2**30:.1f}" if r.reserved else ""
    said = ": ".join(part for part in (WORDS[r.status], r.reason if r.status == "error" else "") if part)
    return (
        f"{s.micro_batch} x {s.pack_length}",
        s.checkpointing,
        s.attention,
        s.loss,
        *speed,
        memory,
        str(r.steps),
        f"{r.seconds:.0f}",
        said,
    )


def line(r: Result) -> str:
    """`2 x 4096, none, sdpa, masked: 7,190 tokens/s +- 90, 31.8 GiB, 3 steps in 6 s`."""
    _, _, _, _, speed, spread, memory, steps, seconds, said = cells(r)
    measured = (
        f"{speed} tokens/s +- {spread}, {memory or '?'} GiB, {steps} steps in {seconds} s"
        if speed
        else f"after {seconds} s"
    )
    return f"{r.setting}: {', '.join(part for part in (measured, said) if part)}"


def summary(found: SearchResult) -> str:
    best, base = found.best, found.baseline
    never = ", ".join(f"{n} {why}" for why, n in found.skipped.items())
    absent = f" Not installed there: {', '.join(found.machine.absent)}." if found.machine.absent else ""
    return (
        f"best: {best.setting}: {best.tokens_per_s:,.0f} tokens/s, {best.reserved / 2**30:.1f} GiB reserved, "
        f"{found.gain:.2f} times {base.setting} ({base.tokens_per_s:,.0f}). {len(found.results)} probes in {found.seconds:.0f} s, "
        f"{found.machine.seconds:.0f} of them until the model was loaded; {found.ended}. Never probed: {never}.{absent}"
    )
