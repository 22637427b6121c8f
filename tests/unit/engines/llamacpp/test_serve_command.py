from __future__ import annotations

from itertools import pairwise

from slipway.engines.llamacpp.serve_command import serve_plan


def test_the_command_line_says_all_that_decides_speed() -> None:
    plan = serve_plan(context=512, slots=4, threads=1)
    flags = {flag: value for flag, value in pairwise(plan.argv[1:]) if flag.startswith("--")}
    assert plan.argv[0] == "{bundle}/llama-server"
    assert flags["--ctx-size"] == str(4 * 512)
    assert (flags["--parallel"], flags["--threads"], flags["--port"]) == ("4", "1", "{port}")
    assert flags["--cache-ram"] == "0"
    assert "--kv-unified" in flags


def test_threads_that_are_not_set_are_the_starts_own() -> None:
    argv = serve_plan(context=512, slots=4, threads=None).argv
    assert argv[argv.index("--threads") + 1] == "{threads}"
