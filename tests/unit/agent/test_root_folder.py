"""The root of a target: nothing of somebody else's is taken over, and nothing but its own is removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.agent.root_folder import not_owned, remove_root, require_own
from slipway.errors import ConfigError

RECORD = "set-up.json"


def test_a_folder_with_other_things_in_it_is_refused(tmp_path: Path) -> None:
    require_own(tmp_path / "absent", RECORD)
    require_own(tmp_path, RECORD)
    (tmp_path / "thesis").mkdir()
    with pytest.raises(ConfigError, match=f"{tmp_path}: has thesis in it, of no set-up.*deploy.ssh.root"):
        require_own(tmp_path, RECORD)
    (tmp_path / RECORD).touch()
    require_own(tmp_path, RECORD)


@pytest.mark.parametrize("made", [True, False])
def test_a_folder_goes_that_was_made_and_one_of_an_admin_is_emptied(tmp_path: Path, made: bool) -> None:
    root, shown = tmp_path / "root", list[str]()
    (root / "releases/0001").mkdir(parents=True)
    (root / RECORD).touch()
    remove_root(root, RECORD, made=made, show=shown.append)
    assert (root.exists(), shown) == (
        not made,
        [f"removed {root}" if made else f"emptied {root}, which was there before"],
    )


def test_the_refusal_of_another_file_names_no_root(tmp_path: Path) -> None:
    keys = tmp_path / ".ssh/authorized_keys"
    assert "mend its owner and mode" in str(
        not_owned(PermissionError(13, "Permission denied", str(keys)), tmp_path / "r")
    )
    refused = str(not_owned(PermissionError(13, "Permission denied", str(tmp_path)), tmp_path / "r"))
    assert "install -d -m 700 -o" in refused and f"{tmp_path}/r" in refused
