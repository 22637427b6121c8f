"""systemd as a set-up needs it: units that start at boot, root's or a login's own, or what is missing for that.

The units of a login that is not root start at boot only where it lingers, which turns its systemd on without a session.
A login without a session of its own (sshd without PAM, `su`) is given no XDG_RUNTIME_DIR and is asked for it here.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

RUNS, LINGERS, RUNTIME = Path("/run/systemd/system"), Path("/var/lib/systemd/linger"), Path("/run/user")
MANAGER_S = 10.0  # that a login's systemd takes to come up once it lingers
Show = Callable[[str], None]


def runs(show: Show) -> bool:
    """Whether systemd runs here; shown where it does not."""
    if not RUNS.is_dir():
        show("systemd does not run here: the units are written, and nothing starts at boot")
        return False
    return True


def linger(show: Show) -> bool:
    """Whether the lingering of this login was turned on here and now; never for root, which needs none."""
    name = pwd.getpwuid(os.getuid()).pw_name
    if os.getuid() == 0 or (LINGERS / name).exists():
        return False
    if refusal := _refusal(["loginctl", "enable-linger"]):
        show(
            f"lingering of login {name} is off, so nothing of it starts at boot, and it could not be turned on: "
            f"{refusal}. Next: have an admin run `loginctl enable-linger {name}`, then set up again"
        )
        return False
    show("lingering of this login: on, so that its units start at boot")
    deadline = time.monotonic() + MANAGER_S
    while not (RUNTIME / str(os.getuid()) / "systemd/private").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    return True


def linger_no_more(show: Show) -> None:
    """Take back what `linger` turned on."""
    refusal = _refusal(["loginctl", "disable-linger"])
    show(f"lingering of this login: {f'could not be turned off: {refusal}' if refusal else 'off again'}")


def enable(units: Iterable[str], show: Show) -> None:
    """Have units that are written run now, with the text that they have now, and start at boot; each that does not is
    shown with systemd's reason. Ours leave what they started alone when they are restarted (`KillMode=process`)."""
    systemctl("daemon-reload")
    for unit in units:
        refusal = systemctl("enable", unit) or systemctl("restart", unit)
        of = "" if os.getuid() == 0 else "--user "
        next_step = f"Next: mend that (`systemctl {of}status {unit}`), then set up again; until then it starts by hand"
        show(f"could not enable {unit}: {refusal}. {next_step}" if refusal else f"enabled and started {unit}")


def systemctl(*words: str) -> str:
    """Why systemctl of this login did not do it; empty when it did."""
    return _refusal(["systemctl", *([] if os.getuid() == 0 else ["--user"]), *words])


def _refusal(argv: list[str]) -> str:
    runtime = RUNTIME / str(os.getuid())
    more = {"XDG_RUNTIME_DIR": str(runtime)} if runtime.is_dir() else {}
    try:
        done = subprocess.run(
            argv, check=False, capture_output=True, text=True, errors="replace", env={**more, **os.environ}
        )
    except OSError as err:
        return f"{argv[0]}: {err.strerror}"
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return lines[-1][:300].rstrip(".") if done.returncode else ""
