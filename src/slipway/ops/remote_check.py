"""The machine of `remote.host` as `slipway doctor` sees it: one login, which changes nothing there.

In the order in which a person mends things: reached, host key known, login without a question; then Python and its
packages, rsync, room for the store, and how far its clock is from ours.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from typing import Literal

from slipway.config.remote import RemoteConfig
from slipway.runners.staging import StagingArea

Status = Literal["ok", "warn", "fail"]
Row = tuple[str, Status, str, str]  # name, status, finding, advice
LIMIT_S = 40.0
PYTHON, BEFORE = (3, 11), (3, 14)
DISK_FAIL_GB, DISK_WARN_GB = 4.0, 20.0  # base, checkpoint, engine and the layers of a release lie there
MOST_SKEW_S = 60.0
_MARK = "slipway-doctor "
# what ssh says (LC_ALL=C) -> the check that fails, what to do; the first that is found counts
_REFUSALS = (
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", "host key", "compare its fingerprint with the machine's own, then "
     "`ssh-keygen -R HOST` and log in once"),
    ("Host key verification failed", "host key", "log in once by hand, compare the fingerprint, and accept it"),
    ("No matching host key", "host key", "log in once by hand: no key type is known to both"),
    ("Permission denied", "login", "a key that ssh finds by itself: `ssh-copy-id`, ssh-agent or ~/.ssh/config"),
    ("Too many authentication failures", "login", "name the key in ~/.ssh/config (IdentityFile, IdentitiesOnly)"),
)  # fmt: skip
_PROBE = """
import importlib.metadata as m, platform, re, sys
print("{mark}python", "%d.%d.%d" % sys.version_info[:3], platform.machine())
for text in {names!r}:
    try:
        print("{mark}package", text, m.version(text))
    except m.PackageNotFoundError:
        print("{mark}package", text)
"""


def remote_rows(params: RemoteConfig) -> list[Row]:
    """The checks of the machine; none where stages run on this one."""
    if params.host is None:
        return []
    area = StagingArea(params.host, str(params.folder))
    if shutil.which("ssh") is None:
        return [(f"remote: {params.host}", "fail", "no ssh on this machine", "install OpenSSH's client")]
    asked = time.time()
    try:
        done = subprocess.run(
            [*area.shell, "--", area.login, shlex.join(["sh", "-c", _script(params)])],
            capture_output=True, check=False, timeout=LIMIT_S, stdin=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return [_refused(params.host, area, f"no answer within {LIMIT_S:.0f} s")]
    now = (asked + time.time()) / 2
    if done.returncode == 255:
        return [_refused(params.host, area, done.stderr.decode(errors="replace"))]
    lines = [line[len(_MARK) :] for line in done.stdout.decode(errors="replace").splitlines() if line.startswith(_MARK)]
    facts = {word: rest for word, _, rest in (line.partition(" ") for line in lines if not line.startswith("package "))}
    named = [f"{line} ".split(" ") for line in lines if line.startswith("package ")]
    packages = {words[1]: words[2] for words in named}
    rows: list[Row] = [(f"remote: {params.host}", "ok", "logs in without a question", "")]
    if words := _printed(done.stdout):
        advice = "put that into `case $- in *i*) ...;; esac` of its profile: copies break on it"
        rows.append(("remote: login", "fail", f"{params.host}: prints {words[:100]!r} before any command", advice))
    return [*rows, *_findings(params, facts, packages, now)]


def _script(params: RemoteConfig) -> str:
    """POSIX sh; every line that counts starts with the mark: a login shell may print others."""
    probe = _PROBE.format(mark=_MARK, names=sorted(_wanted()))
    return f"""
say() {{ echo "{_MARK}$*"; }}
say time $(date +%s)
command -v rsync >/dev/null && say rsync there
folder={shlex.quote(str(params.folder))}
while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
say folder "$folder"
[ -w "$folder" ] && say writable yes
say disk $(df -Pk "$folder" | tail -n 1)
out=$({shlex.quote(str(params.python))} -P -c {shlex.quote(probe)} 2>&1) && printf '%s\\n' "$out" || say trouble $out
exit 0
"""


def _printed(output: bytes) -> str:
    """What the login printed before the script, of which a copy's protocol would break; empty when it is silent."""
    return output.partition(_MARK.encode())[0].decode(errors="replace").strip()


def _wanted() -> Mapping[str, str]:
    """Version of each package of this machine that stages there import, by name."""
    names = ("torch", "transformers", "peft", "safetensors", "numpy", "pydantic", "psutil")
    return {name: version(name) for name in names if find_spec(name)}


def _refused(host: str, area: StagingArea, words: str) -> Row:
    for part, check, advice in _REFUSALS:
        if part in words:
            return (f"remote: {check}", "fail", f"{host}: {part}", advice)
    last = ([line for line in words.strip().splitlines() if line.strip()] or ["ssh's exit code 255"])[-1]
    port = re.search(r":(\d+)$", host)
    advice = f"try `ssh {f'-p {port[1]} ' if port else ''}{area.login} true`; is it on, is remote.host right?"
    return ("remote: reached", "fail", f"{host}: {last[:200]}", advice)


def _findings(params: RemoteConfig, facts: Mapping[str, str], packages: Mapping[str, str], now: float) -> Iterator[Row]:
    """A row a subject, of what the script said."""
    yield _python(params, facts)
    if packages:
        yield _packages(params, packages)
    if "rsync" in facts:
        yield ("remote: rsync", "ok", "there", "")
    else:
        yield ("remote: rsync", "fail", "not there", "install rsync on that machine: artifacts are copied by it")
    yield _disk(params, facts)
    yield _clock(facts, now)


def _python(params: RemoteConfig, facts: Mapping[str, str]) -> Row:
    name, where = "remote: python", f"{params.python}"
    if "python" not in facts:
        trouble = facts.get("trouble", "").strip() or "says nothing"
        return (name, "fail", f"{where}: {trouble[:200]}", "set remote.python: docs/remote.md")
    release, _, machine = facts["python"].partition(" ")
    if not PYTHON <= tuple(int(part) for part in release.split(".")[:2]) < BEFORE:
        return (name, "fail", f"{release} at {where}", "a Python of 3.11 to 3.13 there, and remote.python set to it")
    return (name, "ok", f"{release} on {machine}", "")


def _packages(params: RemoteConfig, packages: Mapping[str, str]) -> Row:
    missing = [name for name, there in packages.items() if not there]
    install = f"`{params.python} -m pip install -r requirements.lock` there"
    if missing:
        return ("remote: packages", "fail", f"missing: {', '.join(missing)}", install)
    ours = _wanted()
    others = [f"{name} {there} for {ours[name]}" for name, there in packages.items() if there != ours.get(name)]
    if others:
        return ("remote: packages", "warn", f"other versions than here: {', '.join(others)}", install)
    return ("remote: packages", "ok", f"{len(packages)} as here", "")


def _disk(params: RemoteConfig, facts: Mapping[str, str]) -> Row:
    name, columns = "remote: disk", facts.get("disk", "").split()
    if "writable" not in facts:
        return (name, "fail", f"{facts.get('folder', params.folder)} is not writable", "set remote.folder elsewhere")
    if len(columns) < 4 or not columns[3].isdigit():
        return (name, "warn", f"df says {' '.join(columns)[:100]!r}", "look yourself whether there is room")
    free = int(columns[3]) * 1024 / 1e9
    status: Status = "fail" if free < DISK_FAIL_GB else "warn" if free < DISK_WARN_GB else "ok"
    advice = "" if status == "ok" else "free space there, or set remote.folder to another disk"
    return (name, status, f"{free:.1f} GB free for {params.folder}", advice)


def _clock(facts: Mapping[str, str], now: float) -> Row:
    text = facts.get("time", "")
    if not text.isdigit():
        return ("remote: clock", "warn", f"date says {text[:100]!r}", "look yourself whether it is right")
    skew = int(text) - now
    if abs(skew) <= MOST_SKEW_S:
        return ("remote: clock", "ok", f"within {max(1.0, abs(skew)):.0f} s of ours", "")
    finding = f"{abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'} of ours: records there say so too"
    return ("remote: clock", "warn", finding, "set its clock (NTP)")
