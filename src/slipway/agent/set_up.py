"""The first-time set-up of a target, on the target: what it changes, printed, and taken back by its own record.

    <root>/                  0700; `slipway-target` (this file), `set-up.json` (what was made, for the undoing),
                             `trust.json` (whose bundles it takes)
    ~/.ssh/authorized_keys   one line: the orchestrator's key, good for `forced` and for tunnels to the engines' ports
    systemd                  the units given, `~/.config/systemd/user` or, for root, `/etc/systemd/system`

Each step is done only if it is not done already, so the set-up may be run again at any time, which is also how a newer
file is brought. Set-ups of one login follow each other: all of them write its authorized_keys. Nothing outside these
places is touched, and no package is installed.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.agent import systemd
from slipway.agent.bundle.signature import POLICIES, TRUST, Trust, fingerprint, read_trust, write_trust
from slipway.agent.files import write_atomic
from slipway.agent.records import Fields, is_present, read_json
from slipway.agent.root_folder import not_owned, remove_root, require_own
from slipway.errors import ConfigError, ResourceError, StateError

FILE, RECORD = "slipway-target", "set-up.json"
_PLAIN = re.compile(r"[A-Za-z0-9._/-]{1,300}")  # nothing in a path that authorized_keys or a unit would quote
_KEY = re.compile(r"(ssh-ed25519) ([A-Za-z0-9+/]{40,200}={0,2})")
_UNIT = re.compile(r"[a-z][a-z0-9@-]{0,60}\.(?:service|timer)")
_NEXT = "bring agent and orchestrator to one version: set the target up again"

Show = Callable[[str], None]


@dataclass(frozen=True)
class Places:
    """Where a set-up writes: the target's root, the login's home, and the folder of its systemd units."""

    root: Path
    home: Path
    units: Path

    @property
    def authorized_keys(self) -> Path:
        """The file with the keys of this login."""
        return self.home / ".ssh" / "authorized_keys"


def places(root: Path) -> Places:
    """Of this login. Raises ConfigError for a root that would need quoting in authorized_keys."""
    home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    full = (home / root).resolve()
    if not _PLAIN.fullmatch(str(full)) or full in (home, *home.parents):
        expected = "a folder of its own, with letters, digits, `.`, `_` and `-` in its path"
        raise ConfigError("root of the target", full, expected, "choose another deploy.ssh.root")
    units = Path("/etc/systemd/system") if os.getuid() == 0 else home / ".config/systemd/user"
    return Places(full, home, units)


def authorized_line(places_: Places, key: str, ports: tuple[int, ...], name: str) -> str:
    """The line of authorized_keys: everything off, but this command and tunnels to `ports` of loopback.

    Raises ConfigError for what is no ed25519 public key.
    """
    match = _KEY.match(key)
    if match is None:
        raise ConfigError("key of the orchestrator", key[:100], "a line `ssh-ed25519 AAAA...`", _NEXT)
    command = f"{sys.executable} {places_.root}/{FILE} --root {places_.root} forced"
    permits = ",".join(f'permitopen="127.0.0.1:{port}"' for port in ports)
    # port-forwarding allows tunnels in both directions: port 1 cannot be had, so none leads back
    options = f'restrict,command="{command}",port-forwarding,permitlisten="127.0.0.1:1",{permits}'
    return f"{options} {match[1]} {match[2]} {mark(name)}"


def mark(name: str) -> str:
    """The comment by which a line of ours is known again."""
    return f"slipway-target:{name}"


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Hold a folder that exists for the time of the block: the kernel's lock on the folder itself leaves no file."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def set_up(root: Path, document: Mapping[str, Any], show: Show) -> dict[str, Any]:
    """Make this login a target. `document`: `name`, `key` (public), `ports`, `units` (name -> text, `{root}` and
    `{python}` in it replaced), `trust` (`policy`, `keys`, `roots`; left out: as it was). `show` gets each change; the
    result says root, home and which units run.

    Raises ConfigError for values that do not fit, ResourceError for what the system refuses. A failure leaves what was
    done so far with its record: run it again, or undo it.
    """
    fields = Fields(document, "set-up of a target", _NEXT)
    name, at = fields.text("name", pattern="[a-z0-9][a-z0-9-]{0,40}"), places(root)
    ports = tuple(port for port in document.get("ports", ()) if isinstance(port, int))
    if not ports:
        raise ConfigError("set-up of a target", "no ports", "the ports of engines and proxy", _NEXT)
    line = authorized_line(at, fields.text("key"), ports, name)
    units = fields.text_map("units", {})
    if wrong := [unit for unit in units if not _UNIT.fullmatch(unit)]:
        raise ConfigError("set-up of a target", f"unit {wrong[0][:100]}", "NAME.service or NAME.timer", _NEXT)
    try:
        with _one_at_a_time(at.home):
            record = _record(at) or {"name": name, "made": [*map(str, _absent(at))], "units": [], "linger": False}
            _make_root(at, record, show)
            _trust(at, fields.document("trust", {}), show)
            _authorize(at, line, name, show)
            _write_units(at, units, record, show)
    except PermissionError as err:
        raise not_owned(err, at.root) from err
    except OSError as err:
        next_step = "mend it there, then set up again; or undo"
        raise ResourceError(f"file {err.filename}", err.strerror or str(err), "a set-up", next_step) from err
    return {"root": str(at.root), "home": str(at.home), "units": record["units"], "python": sys.executable}


def undo(root: Path, show: Show, stop: Callable[[Path], object]) -> dict[str, Any]:
    """Take back what `set_up` made on this login, releases and this file too. `stop` ends what runs out of the root,
    once no unit starts it again.

    Raises ResourceError for what the system refuses; then run it again.
    """
    at = places(root)
    with _one_at_a_time(at.home):
        return _undo(at, show, stop)


def _undo(at: Places, show: Show, stop: Callable[[Path], object]) -> dict[str, Any]:
    record = _record(at)
    if record is None:
        show(f"{at.root}: no record of a set-up; nothing to take back")
        return {"removed": False}
    try:
        for unit in record["units"]:
            systemd.systemctl("disable", "--now", unit)
            (at.units / unit).unlink(missing_ok=True)
            show(f"removed unit {at.units / unit}")
        if record["units"]:
            systemd.systemctl("daemon-reload")
        if record["linger"]:
            systemd.linger_no_more(show)
        stop(at.root)
        _unauthorize(at, str(record["name"]), show)
        remove_root(at.root, RECORD, made=str(at.root) in record["made"], show=show)
        for made in reversed(record["made"]):
            _remove_if_empty(Path(made), show)
    except OSError as err:
        raise ResourceError(f"file {err.filename}", err.strerror or str(err), "an undoing", "mend it there") from err
    return {"removed": True}


def _absent(at: Places) -> list[Path]:
    """What a set-up will make and an undoing removes when it is empty then: outermost first."""
    wanted = [at.authorized_keys, at.units, at.root]
    return sorted({path for place in wanted for path in (place, *place.parents) if not path.exists()})


def _record(at: Places) -> dict[str, Any] | None:
    file = at.root / RECORD
    if not is_present(file):
        return None
    mend = f"take the line {mark('NAME')} out of {at.authorized_keys} and remove {at.root} by hand"
    record = read_json(file, "record of the set-up", mend)
    fields = Fields(record, f"record of the set-up: {file}", mend)
    made = fields.texts("made")
    known = {str(path) for place in (at.authorized_keys, at.units, at.root) for path in (place, *place.parents)}
    if strange := set(made) - known:
        raise StateError(f"record of the set-up: {file}", min(strange), "places of a set-up", mend)
    units = fields.texts("units")
    if strange := {unit for unit in units if not _UNIT.fullmatch(unit)}:
        raise StateError(f"record of the set-up: {file}", min(strange), "names of units", mend)
    return {
        "name": fields.text("name", pattern="[a-z0-9][a-z0-9-]{0,40}"),
        "made": list(made),
        "units": list(units),
        "linger": fields.flag("linger"),
    }


def _make_root(at: Places, record: dict[str, Any], show: Show) -> None:
    require_own(at.root, RECORD)
    if not at.root.is_dir():
        at.root.mkdir(mode=0o700, parents=True)
        show(f"made {at.root}")
    at.root.chmod(0o700)
    write_atomic(at.root / RECORD, json.dumps(record, indent=1) + "\n")
    running, file = Path(sys.argv[0]).resolve(), at.root / FILE
    if running.is_file() and running != file:
        before = file.read_bytes() if file.is_file() else b""
        fresh = file.with_name(f".{FILE}.fresh")
        shutil.copyfile(running, fresh)
        fresh.chmod(0o700)
        fresh.replace(file)
        if before != file.read_bytes():
            show(f"{'replaced' if before else 'wrote'} {file}")


def _trust(at: Places, document: Mapping[str, Any], show: Show) -> None:
    """Whose bundles this target takes. Only a set-up writes it: no session of an orchestrator does."""
    if not document:
        return
    fields = Fields(document, "trust of the set-up", _NEXT)
    trust = Trust(
        fields.text("policy", pattern="|".join(POLICIES)), fields.texts("keys", ()), fields.texts("roots", ())
    )
    if trust != read_trust(at.root) or not is_present(at.root / TRUST):
        write_trust(at.root, trust)
        signers = ", ".join(fingerprint(pem)[:16] for pem in (*trust.keys, *trust.roots))
        show(f"wrote {at.root / TRUST}: {trust.policy}, signers {signers or 'none'}")


def _authorize(at: Places, line: str, name: str, show: Show) -> None:
    file = at.authorized_keys
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    if line in lines:
        return
    if not file.parent.is_dir():
        file.parent.mkdir(mode=0o700)
        show(f"made {file.parent}")
    others = [one for one in lines if not one.endswith(f" {mark(name)}")]
    _write_keys(file, [*others, line])
    replaced = len(others) < len(lines)
    show(f"{'changed our' if replaced else 'added one'} line of {file}: {line}")


def _unauthorize(at: Places, name: str, show: Show) -> None:
    file = at.authorized_keys
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    others = [one for one in lines if not one.endswith(f" {mark(name)}")]
    if len(others) < len(lines):
        _write_keys(file, others)
        show(f"took our line out of {file}")


def _write_keys(file: Path, lines: list[str]) -> None:
    """Replace authorized_keys in one step, with the mode it has: a half-written one would lock everybody out."""
    mode = file.stat().st_mode & 0o777 if file.exists() else 0o600
    file = file.resolve()  # some keep it elsewhere and link to it
    write_atomic(file, "".join(f"{line}\n" for line in lines))
    file.chmod(mode)


def _write_units(at: Places, units: Mapping[str, str], record: dict[str, Any], show: Show) -> None:
    for unit, text in units.items():
        file = at.units / unit
        filled = text.replace("{root}", str(at.root)).replace("{python}", sys.executable)
        if file.exists() and unit not in record["units"]:
            raise ConfigError(f"unit {file}", "there already, not ours", "a free name", "rename or remove it")
        if unit not in record["units"]:
            record["units"].append(unit)
            write_atomic(at.root / RECORD, json.dumps(record, indent=1) + "\n")
        if not file.exists() or file.read_text(encoding="utf-8") != filled:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(file, filled)
            show(f"wrote unit {file}")
    if not units:
        return
    if not systemd.runs(show):
        return
    if systemd.linger(show):
        record["linger"] = True
        write_atomic(at.root / RECORD, json.dumps(record, indent=1) + "\n")
    systemd.enable(units, show)


def _remove_if_empty(path: Path, show: Show) -> None:
    if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
        path.rmdir()
        show(f"removed {path}")
    elif path.is_file() and path.stat().st_size == 0:
        path.unlink()
        show(f"removed {path}")
