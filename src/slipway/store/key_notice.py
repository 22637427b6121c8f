"""What a run says when artifacts of before cannot be reused because the key's document has another shape now."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from slipway.errors import StateError
from slipway.store.key import KEY_FORMAT
from slipway.store.usage import entries
from slipway.system.files import write_atomic
from slipway.system.json_files import is_present, read_json

FORMAT_FILE = "key-format.json"  # the format that the last run wrote


def key_format_notice(root: Path) -> str:
    """One sentence when artifacts in the store at `root` have keys of another format than this version's, and no run
    has said so before; else empty. Looks through the store once: the format is written down then."""
    if _known_format(root) == KEY_FORMAT:
        return ""
    formats = Counter(e.key_format for e in entries(root) if e.is_artifact and e.key_format != KEY_FORMAT)
    root.mkdir(parents=True, exist_ok=True)
    write_atomic(root / FORMAT_FILE, json.dumps({"format": KEY_FORMAT}) + "\n")
    if not formats:
        return ""
    counts = ", ".join(f"{count} of format {number}" for number, count in sorted(formats.items()))
    return (
        f"{formats.total()} artifacts in the store have keys of another format ({counts}; this version writes "
        f"{KEY_FORMAT}): "
        "stages are made again because the key format changed. `slipway gc` frees what nothing needs."
    )


def _known_format(root: Path) -> int | None:
    """What the last run wrote down; None without a file that can be read."""
    try:
        document = read_json(root / FORMAT_FILE, "key format", "") if is_present(root / FORMAT_FILE) else {}
    except StateError:
        return None
    value = document.get("format")
    return value if isinstance(value, int) else None
