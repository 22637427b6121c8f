"""Engines that are containers of the target, through the command line of docker or podman: no library is needed there.

The image is named by digest, so that a moved tag changes nothing; nothing restarts a container but `boot`, which knows
what the pointer names. Labels say which target and release it belongs to: a container whose id was never written down
is still known.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway.agent.engine_process import model_of, write_start_files
from slipway.agent.start_plan import CACHE, CONFIG, StartPlan, fill, usable_cores
from slipway.errors import ConfigError, EngineError, ResourceError

INSIDE = "/slipway"  # where a container sees the folders
COMMAND_S = 120.0
NVIDIA = Path("/dev/nvidiactl")  # there where NVIDIA's driver is loaded
LOG_BYTES, LOG_FILES = "10m", "2"
ROOT_LABEL, RELEASE_LABEL = "slipway.root", "slipway.release"


@dataclass(frozen=True)
class Runtime:
    """A program that runs containers, and the target whose containers it knows by label."""

    program: str
    root: Path

    def run(self, plan: StartPlan, bundle: Path, host: str, port: int, folder: Path) -> str:
        """Start the engine of a release's bundle; the container's id. `folder`: this start's own, for caches and config
        files. Raises ConfigError for an image that is not named by digest, EngineError when it does not start,
        ResourceError without the program.
        """
        if "@sha256:" not in plan.image:
            expected = "an image by digest, NAME@sha256:..."
            raise ConfigError("image of an engine", plan.image, expected, "a tag may be moved: name its digest")
        release = bundle.parent.name
        self.remove(release, grace_s=0)
        mounts = {"bundle": bundle, "model": model_of(plan, bundle), CACHE: folder / CACHE, CONFIG: folder / CONFIG}
        values = {name: f"{INSIDE}/{name}" for name in mounts}
        values |= {"host": host, "port": str(port), "threads": str(usable_cores())}
        write_start_files(plan, folder, values, f"{INSIDE}/{CONFIG}")
        if plan.caches:
            from slipway.agent.warm_caches import fill_start  # a look at a target needs none of it

            fill_start(bundle, folder, program=None)
        variables = {variable: f"{{cache}}/{path}" for path, variable in plan.caches} | dict(plan.environment)
        options = ["--detach", "--name", f"slipway-{release}", "--network", "host", "--restart", "no"]
        options += ["--label", f"{ROOT_LABEL}={self.root}", "--label", f"{RELEASE_LABEL}={release}"]
        options += ["--log-opt", f"max-size={LOG_BYTES}", *self._of_program()]
        for name, source in mounts.items():
            options += ["--volume", f"{source}:{INSIDE}/{name}{'' if name == CACHE else ':ro'}"]
        for name, value in variables.items():
            options += ["--env", f"{name}={fill(value, values, plan.files, f'{INSIDE}/{CONFIG}')}"]
        argv = [fill(argument, values, plan.files, f"{INSIDE}/{CONFIG}") for argument in plan.argv]
        done = self._call("run", *options, plan.image, *argv)
        if done.returncode:
            words = done.stderr.strip()
            next_step = f"read its message; `{self.program} pull {plan.image}` brings the image"
            raise EngineError(f"container of release {release}", words, "a container that starts", next_step)
        return done.stdout.strip()

    def is_running(self, container: str) -> bool:
        """Whether this container runs, by its id; false without the program."""
        done = self._look("inspect", "--format", "{{.State.Running}}", container)
        return done is not None and done.stdout.strip() == "true"

    def of_release(self, release: str) -> list[str]:
        """Ids of this target's containers of a release, running or ended."""
        label = f"label={RELEASE_LABEL}={release}"
        own = f"label={ROOT_LABEL}={self.root}"
        done = self._look("ps", "--all", "--quiet", "--no-trunc", "--filter", own, "--filter", label)
        return done.stdout.split() if done and done.returncode == 0 else []

    def releases_that_run(self) -> set[str]:
        """Names of the releases of this target that have a running container; empty without the program."""
        own = f"label={ROOT_LABEL}={self.root}"
        value = f'.Label "{RELEASE_LABEL}"' if self.program == "docker" else f'index .Labels "{RELEASE_LABEL}"'
        shape = f"{{{{{value}}}}}"
        done = self._look("ps", "--filter", own, "--format", shape)
        return set(done.stdout.split()) if done and done.returncode == 0 else set()

    def remove(self, release: str, grace_s: float) -> list[str]:
        """End and remove every container of a release, SIGKILL after `grace_s` seconds; ids of those that ran."""
        ended = []
        for container in self.of_release(release):
            if self.is_running(container):
                self._call("stop", "--time", str(round(grace_s)), container, timeout_s=grace_s + COMMAND_S)
                ended.append(container)
            self._call("rm", "--force", container)
        return ended

    def save_log(self, container: str, log: Path) -> None:
        """Write what the container printed last to `log`; nothing when that cannot be asked."""
        done = self._look("logs", "--tail", "2000", container)
        if done is not None:
            log.write_text(done.stdout + done.stderr, encoding="utf-8", errors="replace")

    def _of_program(self) -> list[str]:
        """Options that docker and podman spell in two ways."""
        options = [] if self.program == "podman" else ["--log-opt", f"max-file={LOG_FILES}"]
        if NVIDIA.exists():  # every GPU; their processes talk through shared memory, of which a container has 64 MB
            options += ["--ipc", "host"]
            options += ["--device", "nvidia.com/gpu=all"] if self.program == "podman" else ["--gpus", "all"]
        return options

    def _look(self, *arguments: str) -> subprocess.CompletedProcess[str] | None:
        """A question whose answer without the program is no."""
        try:
            return self._call(*arguments)
        except ResourceError:
            return None

    def _call(self, *arguments: str, timeout_s: float = COMMAND_S) -> subprocess.CompletedProcess[str]:
        command: Sequence[str] = (self.program, *arguments)
        try:
            return subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as err:
            next_step = f"install {self.program}, start its daemon, or set deploy.runtime to the other one"
            raise ResourceError(f"{self.program} {arguments[0]}", str(err), "an answer", next_step) from err
