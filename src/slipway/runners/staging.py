"""Jobs on a machine that shares no folder with this one: what they read is copied there, what they write is fetched.

    <staging>/inputs/<digest>/      artifacts, by the digest of their bytes; copied once, checked there by sha256sum
    <staging>/trees/<name>/         other folders that are read, brought up to date by size and time
    <staging>/jobs/<job>/<n>/       folders that are written

Of what is written, the files at the top (logs of steps) are fetched while the job runs, everything when it has ended:
a checkpoint that is half fetched must not look like one. What is there is newer than what is here, so a copy to it adds
and never replaces, and a fetch makes here what is there.
"""

from __future__ import annotations

import hashlib
import shlex
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from slipway.errors import ConfigError, ResourceError
from slipway.runners.base import Address, Job, Mount, Outcome, Runner
from slipway.store.manifest import MANIFEST, read_manifest
from slipway.system import rsync
from slipway.system.json_files import is_present

FETCH_EVERY_S = 30.0
COMPLETE = ".slipway-complete"  # in a copied artifact whose bytes were checked there
_SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=5")


@dataclass(frozen=True)
class StagingArea:
    """A folder of another machine. `address`: `ssh://user@host[:port]`, logged in to as ~/.ssh/config says."""

    address: str
    folder: str

    def __post_init__(self) -> None:
        if not self.address.startswith("ssh://"):
            raise ConfigError(
                "target.runner.staging",
                f"with the engine {self.address or 'of this machine'}",
                "an engine at ssh://user@host",
                "set target.runner.host or DOCKER_HOST so, or leave staging out",
            )

    @property
    def shell(self) -> list[str]:
        """ssh's command line, without the host."""
        url = urlsplit(self.address)
        return [*_SSH, *(["-p", str(url.port)] if url.port else [])]

    @property
    def login(self) -> str:
        """`user@host`."""
        url = urlsplit(self.address)
        return f"{url.username}@{url.hostname}" if url.username else str(url.hostname)

    def path(self, there: str) -> str:
        """A path there, as rsync takes it: an IPv6 address needs brackets."""
        user, at, host = self.login.rpartition("@")
        return f"{user}{at}[{host}]:{there}" if ":" in host else f"{self.login}:{there}"

    def run(self, words: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
        """A command there; `text` on its standard input. Raises ResourceError when ssh cannot log in."""
        argv = [*self.shell, "--", self.login, shlex.join(words)]
        done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
        if done.returncode == 255:
            last = (done.stderr.strip().splitlines() or ["ssh's exit code 255"])[-1]
            port = urlsplit(self.address).port
            next_step = f"try `ssh {f'-p {port} ' if port else ''}{self.login} true`"
            raise ResourceError(f"login at {self.address}", last, "ssh that logs in without a question", next_step)
        return done

    def stage_input(self, source: Path) -> str:
        """Copy a folder or file that is read; its path there. Raises ResourceError for a lost link, a full disk, and
        for an artifact whose bytes are not the same there."""
        if is_present(source / MANIFEST):
            manifest = read_manifest(source)
            there = f"{self.folder}/inputs/{manifest['digest']}"
            if self.run(["test", "-e", f"{there}/{COMPLETE}"]).returncode:
                self._push(source, there, "--copy-links")  # a model of another folder is linked into the store
                self._check(there, manifest["files"], source)
                self.run(["touch", f"{there}/{COMPLETE}"])
            return there
        name = f"{source.name}-{hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:16]}"
        there = f"{self.folder}/trees/{name}"
        if source.is_file():
            self._push(source.parent, there, f"--include=/{source.name}", "--exclude=*")
            return f"{there}/{source.name}"
        self._push(source, there, "--links", "--delete")
        return there

    def stage_output(self, source: Path, job: str, number: int) -> str:
        """Copy what is here of a folder that is written, as far as it is not there; its path there."""
        there = self.output(job, number)
        self._push(source, there, "--links", "--ignore-existing")
        return there

    def output(self, job: str, number: int) -> str:
        """Where a folder that a job writes is there: its `number` among the job's mounts names it."""
        return f"{self.folder}/jobs/{job}/{number}"

    def fetch(self, there: str, source: Path, *, whole: bool) -> None:
        """Bring what a job wrote back: everything, and nothing else stays here; or, not `whole`, files at the top."""
        options = ["--links", "--delete"] if whole else ["--exclude=*/"]
        rsync.synchronize(self.path(there), str(source), self.shell, options)

    def _push(self, source: Path, there: str, *options: str) -> None:
        rsync.synchronize(str(source.resolve()), self.path(there), self.shell, options)

    def _check(self, there: str, files: list[dict[str, str]], source: Path) -> None:
        """Raises ResourceError unless every file of an artifact has the digest that its manifest names."""
        sums = "".join(f"{file['sha256']}  ./{file['path']}\n" for file in files)
        checked = self.run(["sh", "-c", f"cd {there} && sha256sum --check --strict --quiet -"], sums)
        if checked.returncode:
            words = (checked.stdout + checked.stderr).strip().splitlines() or ["sha256sum failed"]
            next_step = f"`slipway run` checks the artifact here; remove {there} there, then run again"
            raise ResourceError(f"copy of {source} at {self.address}", words[0], "the artifact's own bytes", next_step)


class StagedRunner:
    """A runner whose machine gets copies: the jobs given to it name paths of this machine."""

    def __init__(self, runner: Runner, area: StagingArea, fetch_every_s: float = FETCH_EVERY_S) -> None:
        self._runner, self._area, self._every_s = runner, area, fetch_every_s
        self._staged: dict[str, Job] = {}
        self._fetched: dict[str, float] = {}

    def submit(self, job: Job) -> bool:
        """Copy what is missing, then start or adopt the job there. Raises as `StagingArea.stage_input`."""
        return self._runner.submit(self._stage(job))

    def poll(self, job: Job) -> Outcome | None:
        """As of the runner; what the job wrote is here when it has ended. Raises ResourceError when it cannot be
        fetched: the job has ended there, and a further poll fetches it."""
        ended = self._runner.poll(self._known(job))
        if ended is not None or time.monotonic() - self._fetched.get(job.name, 0.0) >= self._every_s:
            self._fetch(job, whole=ended is not None)
        return ended

    def cancel(self, job: Job) -> Outcome:
        """As of the runner; what the job saved is here then."""
        ended = self._runner.cancel(self._known(job))
        self._fetch(job, whole=True)
        return ended

    def forget(self, job: Job) -> None:
        """As of the runner. What was copied stays: the next attempt, and the next stage, read it."""
        self._runner.forget(self._known(job))

    def address(self, job: Job, port: int) -> Address | None:
        """As of the runner."""
        return self._runner.address(self._known(job), port)

    def _known(self, job: Job) -> Job:
        """The job as it runs there; one that an earlier process submitted has the same paths."""
        if job.name not in self._staged:
            written = [replace(mount, source=Path(there)) for mount, there in self._written(job)]
            return replace(job, mounts=tuple(written))
        return self._staged[job.name]

    def _stage(self, job: Job) -> Job:
        mounts = [self._stage_mount(job.name, n, mount) for n, mount in enumerate(job.mounts) if not _of_links(mount)]
        self._staged[job.name] = staged = replace(job, mounts=tuple(mounts))
        return staged

    def _stage_mount(self, job: str, number: int, mount: Mount) -> Mount:
        if mount.read_only:
            return replace(mount, source=Path(self._area.stage_input(mount.source)))
        return replace(mount, source=Path(self._area.stage_output(mount.source, job, number)))

    def _written(self, job: Job) -> list[tuple[Mount, str]]:
        """The folders that a job writes, and where each is there."""
        return [(m, self._area.output(job.name, n)) for n, m in enumerate(job.mounts) if not m.read_only]

    def _fetch(self, job: Job, *, whole: bool) -> None:
        for mount, there in self._written(job):
            self._area.fetch(there, mount.source, whole=whole)
        self._fetched[job.name] = time.monotonic()


def _of_links(mount: Mount) -> bool:
    """Whether a mount is there for symlinks that lead into it, at its own path: copies of artifacts hold no links."""
    return mount.read_only and mount.target == str(mount.source)
