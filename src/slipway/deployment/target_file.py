"""The one file that is put on a target: `slipway.agent` and `slipway.errors` as a zip that Python runs.

The same modules give the same bytes: entries are sorted and carry no time, so that a digest says whether a target has
this version.
"""

from __future__ import annotations

import io
import zipfile
from functools import cache
from pathlib import Path

import slipway

SHEBANG = b"#!/usr/bin/env python3\n"
MAIN = """\
import sys

if __name__ == "__main__":
    if sys.argv[1:2] == ["watch-log"]:
        from slipway.agent.rotation import main

        main(sys.argv[2:])
    else:
        if sys.version_info < (3, 10):
            sys.exit("slipway-target: Python %d.%d; expected 3.10 or later" % sys.version_info[:2])
        from slipway.agent.program import main

        sys.exit(main(sys.argv[1:]))
"""
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold


@cache
def target_file() -> bytes:
    """The file, about 0.1 MB. Stored, not packed: what is read beside every engine is small enough."""
    package = Path(slipway.__file__).parent
    modules = [package / "errors.py", *package.glob("agent/**/*.py")]
    entries = {f"slipway/{module.relative_to(package)}": module.read_bytes() for module in modules}
    entries |= {"slipway/__init__.py": b"", "__main__.py": MAIN.encode()}
    buffer = io.BytesIO(SHEBANG)
    buffer.seek(len(SHEBANG))
    with zipfile.ZipFile(buffer, "a") as archive:
        for name, data in sorted(entries.items()):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    return buffer.getvalue()
