"""The runbooks of a Spark and a DGX: every `slipway` command in them is one of ours, with settings that hold."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from slipway.cli.app import app
from slipway.config.load import load_config

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(p for m in ("spark", "dgx") for p in (ROOT / "infra" / m).iterdir() if p.suffix in ("", ".md", ".sh"))
NAMES = [str(page.relative_to(ROOT / "infra")) for page in PAGES]
# What a script knows when it comes to its commands; arrays of a script's own are taken from it.
KNOWN = """
engine=vllm kind=vllm row=dgx-h100 target=dgx-slurm undo= set_more=engine.slots=4 image=x
words=(spark.example ann) fingerprint=SHA256:x USER=ann HOME=/home/ann
"""
COMMAND = re.compile(r"(?:^|\$\(|\(|&& |`|then: |Next: )\s*(slipway [a-z][^`;)|]*?)(?=`|;|\)|\||\s+#|,| and |$)")
OVERRIDES = re.compile(r"[a-z_]+(\.[a-z_]+)*=.*")


def commands(page: Path) -> list[str]:
    """Command lines of a script, and those that its messages and a page name."""
    lines = page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    texts = [match[1].strip() for line in lines for match in COMMAND.finditer(line)]
    return [text if text.count('"') % 2 == 0 else text.rstrip('"') for text in texts]  # of a message: its last quote


def words(page: Path, command: str) -> list[str]:
    """The words of a command as the script's shell would hand them over."""
    text = page.read_text(encoding="utf-8")
    arrays = re.findall(r"^ *settings\+?=\(.*\)$", text, re.MULTILINE)
    script = "\n".join([KNOWN, *arrays, 'slipway() { printf "%s\\0" "$@"; }', command])
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]


def parsed(verb: str, rest: list[str]) -> None:
    """Parse a command's words as the command line does; nothing is run. Raises for a verb or an option that is none."""
    group: Any = get_command(app)
    context = group.context_class(group)
    command = group.get_command(context, verb)
    assert command is not None, f"no command {verb}"
    if rest:  # a verb alone may be a mention of the command
        command.make_context(verb, list(rest), parent=context)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_of_a_runbook_is_one_of_ours(page: Path) -> None:
    for command in commands(page):
        verb, *rest = words(page, command)
        parsed(verb, rest)
        overrides = [word for word in rest if OVERRIDES.fullmatch(word)]
        if verb in ("run", "config", "stop", "target") and overrides:
            row = [f"layers.deploy=deploy/{rest[1]}"] if verb == "target" else []
            load_config(ROOT / "conf", [*row, *overrides])


def test_what_is_extracted_are_commands() -> None:
    """So that the test above cannot pass for having seen nothing."""
    spark, dgx = ROOT / "infra/spark", ROOT / "infra/dgx"
    assert 'slipway run "${settings[@]}"' in commands(spark / "40-engine")
    assert {"slipway stop", "slipway gc", "slipway pin"} <= set(commands(spark / "40-engine"))
    assert words(dgx / "40-engine", 'slipway run "${settings[@]}" $set_more') == shlex.split(
        "run layers.serving=targets/dgx-h100 engine.kind=vllm engine.image=vllm engine.slots=4"
    )
    assert sum(len(commands(page)) for page in PAGES) > 30
    with pytest.raises(Exception, match="--no-such-option"):
        parsed("run", ["--no-such-option"])
    with pytest.raises(AssertionError, match="no command ship"):
        parsed("ship", [])
