"""A promotion in a process of its own that ends by SIGKILL at a step of the journal.

    python -m tests.support.switch_killed ROOT VERSION STEP begins|done SETTINGS

`begins`: the beginning of the step is on the disk and nothing of it is done; `done`: it is done and that is not on the
disk.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from slipway.agent.journal import BEGINS, Journal
from tests.support.switch_agent import SwitchAgent

ROOT = Path(__file__).resolve().parents[2]


def promote_killed(root: Path, version: str, step: str, state: str, settings: dict[str, Any]) -> None:
    """Run it, and see that it was killed and did not end by itself."""
    argv = [sys.executable, "-m", "tests.support.switch_killed", str(root), version, step, state, json.dumps(settings)]
    done = subprocess.run(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def main() -> None:
    """Promote, and die on the way."""
    root, version, step, state, settings = sys.argv[1:]
    real = Journal._append

    def append(self: Journal, row: dict[str, Any]) -> None:
        here = (row.get("step"), row.get("state")) == (step, state)
        if here and state != BEGINS:
            os.kill(os.getpid(), signal.SIGKILL)
        real(self, row)
        if here:
            os.kill(os.getpid(), signal.SIGKILL)

    Journal._append = append  # type: ignore[method-assign, assignment]
    target = SwitchAgent(Path(root))
    target.settings = json.loads(settings)
    target.promote(version)


if __name__ == "__main__":
    main()
