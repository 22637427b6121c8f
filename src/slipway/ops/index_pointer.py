"""Which index `slipway rag search` opens: the file beside the store's artifacts that names it.

Short because it stands apart from `retrieval`, whose stages a look need not import.
"""

from __future__ import annotations

import re
from pathlib import Path

from slipway.errors import StateError
from slipway.store.usage import INDEX_POINTER
from slipway.system.json_files import is_present

RETRIEVERS = ("bm25", "dense", "hybrid")
BUILD = "`slipway rag build`"


def pointer(store: Path) -> tuple[str, str] | None:
    """Key of the index that was built last, and its retriever; None where none was built. Raises StateError for a
    pointer that names none."""
    file = store / INDEX_POINTER
    if not is_present(file):
        return None
    try:
        key, retriever = file.read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        key, retriever = "", ""
    if retriever not in RETRIEVERS or not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z_-]*", key):
        raise StateError(f"pointer {file}", "names no index", "a key and a retriever", f"{BUILD} writes it anew")
    return key, retriever
