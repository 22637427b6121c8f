"""Boots of a server that answers: warm-up goes on while the log compiles, and figures say what they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway.engines.boots import MAX_PASSES, Boot, Shape, boot_figures, measure_boot, speed, traffic_shapes
from slipway.engines.chat_client import ChatClient
from slipway.engines.driver import Limits
from slipway.engines.start_steps import LogWatch
from slipway.errors import EngineError
from tests.support.scripted_server import scripted

LIMITS = Limits(context=256, slots=2, graph_sizes=[1, 2, 4])
COMPILES = "[jit_monitor.py:103] Triton kernel JIT compilation during inference: k. This causes a latency spike\n"


@pytest.fixture(autouse=True)
def short_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.engines.boots.LOG_LAG_S", 0.05)


@pytest.fixture
def client() -> Iterator[ChatClient]:
    with scripted() as (url, _), ChatClient(url, "m", 30) as client:
        yield client


class WritingWatch(LogWatch):
    """A log to which the engine writes a line about compilation at each of the first `busy` looks after ready."""

    busy = 0

    def look(self) -> None:
        if self.busy > 0:
            self.busy -= 1
            with self.path.open("a") as log:
                log.write(COMPILES)
        super().look()


def boot(client: ChatClient, path: Path, busy: int) -> Boot:
    watch = WritingWatch(path)
    path.write_text("Starting to load model\n")
    watch.look()
    watch.busy = busy
    ready = watch.lines[0][0] + 1.0
    return measure_boot("cold", "vllm", client, watch, (ready - 3.0, ready), LIMITS, caches=True)


def test_a_quiet_boot_needs_one_pass(client: ChatClient, tmp_path: Path) -> None:
    measured = boot(client, tmp_path / "log.txt", 0)
    assert (measured.passes, measured.compiled, measured.settled) == (1, 0, True)
    assert measured.steps == {"process": 2.0, "weights": 1.0}
    assert measured.ready_s == 3.0
    assert measured.tokens_per_s > 0


def test_warm_up_goes_on_while_the_log_compiles(client: ChatClient, tmp_path: Path) -> None:
    measured = boot(client, tmp_path / "log.txt", 5)
    assert measured.passes > 1
    assert measured.settled
    assert measured.compiled >= 3


def test_warm_up_ends_although_the_log_compiles_on(client: ChatClient, tmp_path: Path) -> None:
    measured = boot(client, tmp_path / "log.txt", 1000)
    assert (measured.passes, measured.settled) == (MAX_PASSES, False)
    assert boot_figures([measured], 3)["boots_still_compiling"] == 1


def test_an_engine_that_refuses_is_an_error(tmp_path: Path) -> None:
    with ChatClient("http://127.0.0.1:9/v1", "m", 1, retries=0) as client, pytest.raises(EngineError):
        measure_boot("cold", "vllm", client, LogWatch(tmp_path / "log"), (0.0, 1.0), LIMITS, caches=True)


def test_traffic_touches_every_graph_and_both_ends_of_the_context() -> None:
    shapes = traffic_shapes(LIMITS, 40)
    assert {shape.callers for shape in shapes} == {1, 2}
    assert {shape.prompt_words for shape in shapes} == {8, 50}
    assert all(2 * shape.prompt_words + 40 + shape.answer_tokens <= 256 for shape in shapes)
    assert traffic_shapes(LIMITS, 40, caches=False) == [Shape(2, 8, 16)]


def test_speed_counts_the_tokens_of_all_callers(client: ChatClient) -> None:
    clock = iter((10.0, 14.0))
    one = client.ask([{"role": "user", "content": "0 " + "a " * 8}], 16).completion_tokens
    assert speed(client, [Shape(1, 8, 16), Shape(2, 8, 16), Shape(2, 50, 16)], lambda: next(clock)) == one * 2 / 4


def sample(start: str, ready: float, rate: float, **steps: float) -> Boot:
    document: dict[str, Any] = {"start": start, "ready_s": ready, "steps": steps, "first_answer_s": 0.5}
    return Boot.model_validate({**document, "tokens_per_s": rate})


def test_figures_are_medians_with_their_ends() -> None:
    boots = [
        sample("cold", 110.0, 300.0, process=60.0, compile=50.0),
        sample("warm", 70.0, 90.0, process=60.0, compile=10.0),
        sample("warm", 72.0, 100.0, process=61.0, compile=11.0),
        sample("warm", 80.0, 110.0, process=70.0),
    ]
    figures = boot_figures(boots, 4)
    assert figures["start_cache"] == "4 caches"
    assert (figures["cold_start_s"], figures["warm_start_s"], figures["warm_starts"]) == (110.0, 72.0, 3)
    assert (figures["warm_start_min_s"], figures["warm_start_max_s"]) == (70.0, 80.0)
    assert figures["warm_process_s"] == 61.0
    assert "warm_compile_s" not in figures, "one of the three has no such step"
    assert figures["boot_speed_spread"] == pytest.approx(0.2)


def test_one_warm_start_has_no_spread_and_no_cache_is_called_so() -> None:
    figures = boot_figures([sample("cold", 1.0, 9.0, process=1.0), sample("warm", 0.9, 9.0, process=0.9)], 0)
    assert "boot_speed_spread" not in figures
    assert "warm_start_min_s" not in figures
    assert "page cache" in figures["start_cache"]


def test_a_log_that_arrives_behind_the_answers_is_waited_for(client: ChatClient, tmp_path: Path) -> None:
    """As a container's is: the lines come some looks after the pass that they are of."""

    class LateWatch(LogWatch):
        looks = 0

        def look(self) -> None:
            self.looks += 1
            if self.looks == 6:
                with self.path.open("a") as log:
                    log.write(COMPILES)
            super().look()

    watch = LateWatch(tmp_path / "log")
    ready = watch.clock()
    measured = measure_boot("cold", "vllm", client, watch, (ready - 3.0, ready), LIMITS, caches=True)
    assert (measured.compiled, measured.settled) == (1, True)
    assert measured.passes == 2
