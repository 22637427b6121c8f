"""The machine of `remote.host`: our code on it, requests to it, artifacts to it and from it.

    <folder>/code/<digest>/slipway/   this package, copied once a version: what runs there is what runs here
    <folder>/store/<kind>/<key>/      a store like any other; what is made there stays there
    <folder>/incoming/<digest>/       an artifact on its way, resumed after a cut link, checked before it is taken
    <folder>/cache/                   downloads and builds

A request is one ssh command, `python -m slipway.ops.remote_side`: a JSON line in, lines of events and one of the result
out. ssh is OpenSSH's, with the person's own ~/.ssh/config.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import slipway
from slipway.config.engine import EngineConfig
from slipway.config.remote import RemoteConfig
from slipway.config.target import TargetConfig
from slipway.errors import ConfigError, LinkLostError, ResourceError, SlipwayError
from slipway.pipeline.remote_request import END_S, Document, OnEvent, RemoteRequest
from slipway.runners.staging import StagingArea
from slipway.store.artifacts import MANIFEST, Artifact
from slipway.store.manifest import read_manifest
from slipway.store.placed import PLACED, Placed
from slipway.store.store import A, load, verify
from slipway.system import rsync
from slipway.system.files import canonical, disk_full_is_named, sha256_bytes, sha256_file, write_atomic

MODULE = "slipway.ops.remote_side"
_LOST = 255  # ssh's exit code for itself


@dataclass(frozen=True)
class MachineFacts:
    """What a stage's call needs to know of the machine that it runs on. `name`: as measurements have it; `memory`:
    bytes; `fingerprint`: what an engine built there is valid for."""

    name: str
    memory: int
    fingerprint: dict[str, str]


class RemoteMachine:
    """A machine that stages run on. `keep_mb`: larger files of artifacts stay there."""

    def __init__(self, address: str, folder: str, python: str, keep_mb: float) -> None:
        self.address, self.folder, self._python, self._keep_mb = address, folder, python, keep_mb
        self._area = StagingArea(address, folder)
        self._verified: set[str] = set()  # digests of what was verified there, or sent, by this process
        self._facts: dict[str, MachineFacts] = {}  # by the sections that were asked about

    @property
    def store(self) -> str:
        """Its store's root."""
        return f"{self.folder}/store"

    def holds(self, there: Placed | None) -> bool:
        """Whether an artifact's files that are not here lie in this machine's store."""
        return there is not None and (there.address, there.folder) == (self.address, self.folder)

    def ask(
        self, verb: str, document: Mapping[str, Any], on_event: OnEvent = lambda _: None, stop_s: float = 0.0
    ) -> Document:
        """The result of a verb of `ops/remote_side.py`. An interrupted caller ends the stage there, within `stop_s`.

        Raises what the verb raised there; ResourceError for a machine that does not answer; LinkLostError for a lost
        link: a stage goes on then, and the next request for it finds it; ConfigError for a Python there that cannot run
        this package.
        """
        words = ["env", f"PYTHONPATH={self._code()}", self._python, "-P", "-m", MODULE]
        argv = [*self._area.shell, "--", self._area.login, shlex.join(words)]
        request = {"verb": verb, "store": self.store, "cache": f"{self.folder}/cache", **document}
        with tempfile.TemporaryFile() as errors, RemoteRequest(argv, request, errors) as asked:
            try:
                result = asked.result(on_event)
            except BaseException:
                asked.cancel(stop_s + END_S)
                raise
            if result is None:
                raise self._ended(asked.end(), errors, verb)
        if "error" in result:
            raise SlipwayError.from_json(result["error"])
        return dict(result["result"])

    def facts(self, engine: EngineConfig, serving: TargetConfig) -> MachineFacts:
        """What calls of stages need to know of the machine; asked once. Raises as `ask`, and EngineError when the
        engine's Python there does not answer."""
        sections = {"engine": engine.model_dump(mode="json"), "serving": serving.model_dump(mode="json")}
        asked = sha256_bytes(canonical(sections))
        if asked not in self._facts:
            self._facts[asked] = MachineFacts(**self.ask("facts", sections))
        return self._facts[asked]

    def look(self) -> Document:
        """That machine now: architecture, disk, memory, GPUs, clock, as `agent/probe.py` gives them."""
        return self.ask("look", {})

    def inventory(self) -> dict[str, str]:
        """Digests of the artifacts in the store there by `KIND/KEY`, as their manifests and file sizes say."""
        return dict(self.ask("inventory", {})["artifacts"])

    def has(self, artifact: Artifact) -> bool:
        """Whether the artifact is in the store there, every byte of it."""
        is_there = bool(self.ask("has", name_there(artifact))["has"])
        if is_there:
            self._verified.add(artifact.digest)
        return is_there

    def push(self, artifact: Artifact) -> None:
        """See that an artifact is in the store there, checked there. Raises ResourceError for a lost link or a full
        disk, and for bytes that are not the artifact's."""
        if artifact.digest in self._verified or self.has(artifact):
            return
        options = ["--copy-links", "--partial", "--delete", f"--exclude=/{PLACED}"]
        incoming = f"{self.folder}/incoming/{artifact.digest}"
        rsync.synchronize(str(artifact.path), self._area.path(incoming), self._area.shell, options)
        self.ask("take", {**name_there(artifact), "incoming": incoming})
        self._verified.add(artifact.digest)

    def pull(self, cls: type[A], key: str, final: Path) -> A:
        """Bring an artifact's small files into `final`, in one rename; a record names those that stay there. Raises
        ResourceError for a lost link, a full disk, and bytes that are not the artifact's."""
        there = self._area.path(f"{self.store}/{cls.kind}/{key}")
        temporary = final.parent / f".tmp-{key[:16]}-{os.getpid()}"
        limit = int(self._keep_mb * 1e6)
        with disk_full_is_named(final):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            try:
                rsync.synchronize(there, str(temporary), self._area.shell, ["--copy-links", f"--max-size={limit}"])
                files = read_manifest(temporary)["files"]
                absent = tuple(file["path"] for file in files if file["size"] > limit)
                if absent:
                    record = Placed(address=self.address, folder=self.folder, python=self._python, files=absent)
                    write_atomic(temporary / PLACED, record.model_dump_json(indent=1) + "\n")
                self._check(temporary, there)
                shutil.rmtree(final, ignore_errors=True)
                temporary.rename(final)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        return load(cls, final)

    def bring(self, artifact: Artifact) -> None:
        """Bring the files that are not here: the artifact is whole then. Raises as `pull`."""
        there = self._area.path(f"{self.store}/{artifact.kind}/{key_there(artifact)}")
        with disk_full_is_named(artifact.path):
            options = ["--copy-links", "--partial", f"--exclude=/{MANIFEST}"]
            rsync.synchronize(there, str(artifact.path), self._area.shell, options)
        if problem := verify(artifact.path):
            raise ResourceError(f"copy of {there}", problem, "the artifact's own bytes", "run again")
        (artifact.path / PLACED).unlink(missing_ok=True)

    def _check(self, copy: Path, there: str) -> None:
        if problem := verify(copy, elsewhere=True):
            next_step = "run again: the artifact there is verified, and made anew where it is damaged"
            raise ResourceError(f"copy of {there}", problem, "the artifact's own bytes", next_step)

    def _code(self) -> str:
        """The folder there that this package lies in, copied when it is not there yet."""
        package = Path(slipway.__file__).parent
        there = f"{self.folder}/code/{code_digest(package)[:16]}"
        if self._area.run(["test", "-e", f"{there}/complete"]).returncode:
            options = ["--delete", "--exclude=__pycache__"]
            rsync.synchronize(str(package), self._area.path(f"{there}/slipway"), self._area.shell, options)
            self._area.run(["touch", f"{there}/complete"])
        return there

    def _ended(self, code: int, errors: IO[bytes], verb: str) -> SlipwayError:
        """Why a request ended without a result."""
        errors.seek(0)
        lines = [line for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
        words = lines[-1] if lines else f"exit code {code} without a word"
        if code in (_LOST, 75):
            next_step = "a stage goes on there; run again: it is found, or its result is"
            return LinkLostError(f"link to {self.address}", words, "ssh that stays up", next_step)
        if code in (126, 127) or "Error" in words or "No module" in words:
            expected = "a Python of 3.11 to 3.13 with the packages of requirements.lock"
            return ConfigError(
                "remote.python", f"{self._python} on {self.address}: {words}", expected, "docs/remote.md"
            )
        return ResourceError(f"{verb} on {self.address}", words, "a result", "run again; look at the machine's memory")


def remote_machine(params: RemoteConfig) -> RemoteMachine | None:
    """The machine of the config; None where stages run on this one."""
    if params.host is None:
        return None
    return RemoteMachine(params.host, str(params.folder), str(params.python), params.keep_mb)


def machine_of(there: Placed) -> RemoteMachine:
    """The machine that an artifact's record names."""
    return RemoteMachine(there.address, there.folder, there.python, keep_mb=64)


def key_there(artifact: Artifact) -> str:
    """The name of an artifact's folder in the other store: its key; the digest of one that has none."""
    return artifact.key or artifact.digest


def name_there(artifact: Artifact) -> Document:
    """How requests name an artifact."""
    return {"kind": artifact.kind, "key": key_there(artifact), "digest": artifact.digest}


@functools.cache
def code_digest(package: Path) -> str:
    """sha256 over paths and contents of the package's files."""
    files = sorted(path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sha256_bytes(canonical([[path.relative_to(package).as_posix(), sha256_file(path)] for path in files]))
