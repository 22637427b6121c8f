"""The code version of this process, computed by a process of its own while this one imports torch.

Parsing a hundred modules takes a tenth of the time in which a GPU quantizes an 8B model, and `import torch` keeps the
interpreter busy for longer than that: on a machine with a second core the code version costs nothing. `python -m
slipway.store.code_ahead MODULE...` prints it.
"""

from __future__ import annotations

import subprocess
import sys

from slipway.store.code_version import code_digest

_started: dict[tuple[str, ...], subprocess.Popen[str]] = {}


def start_code_digest(*modules: str) -> None:
    """Begin to compute the code version of `modules`, dotted names below slipway. Where no process can be made nothing
    is begun."""
    command = [sys.executable, "-m", "slipway.store.code_ahead", *modules]
    try:
        _started[modules] = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
    except OSError:
        return


def code_digest_of(*modules: str) -> str:
    """`code_digest`: what the process printed that was started for it, else computed here, with its errors."""
    process = _started.pop(modules, None)
    if process is None:
        return code_digest(*modules)
    printed, _ = process.communicate()
    return printed.strip() if process.returncode == 0 else code_digest(*modules)


if __name__ == "__main__":
    sys.stdout.write(code_digest(*sys.argv[1:]))
