"""One source file: what of it decides bytes."""

from __future__ import annotations

import pytest

from slipway.errors import SlipwayError
from slipway.store.source_code import Import, analyse


def test_prose_and_layout_do_not_count_and_code_does() -> None:
    first = analyse('"""Doc."""\nvalue = (1 +  2)  # why\n', "data.x", False)
    assert first.digest == analyse("value = 1 + 2\n", "data.x", False).digest
    assert first.digest != analyse("value = 1 + 3\n", "data.x", False).digest
    assert first.names == {"value"}


def test_imports_are_absolute_names_below_slipway() -> None:
    source = analyse(
        "from . import a\nfrom ..system import files\nimport slipway.errors\nimport json\n", "data.x", False
    )
    assert source.imports == (Import("data", "a"), Import("system", "files"), Import("errors"))


def test_code_that_cannot_be_followed_is_refused() -> None:
    with pytest.raises(SlipwayError, match="exec"):
        analyse("exec(text)\n", "data.x", False)
