"""Training jobs of this store, wherever they run, and jobs that nobody follows or knows: what `slipway status` lists.
Servers of stages that were killed are among the latter.

A stage `train_nemo` that works leaves its job's record in `work/train_nemo-*/nemo`. A job is followed while its stage
process lives. One that runs unfollowed is no loss (the next run adopts it), but somebody should know.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from slipway.config.load import Config
from slipway.config.target import DockerConfig, LocalRunConfig, SlurmConfig, TargetConfig
from slipway.errors import ResourceError, StateError
from slipway.ops.model_servers import left_over, model_servers
from slipway.pipeline.stage import STAGE_FILE
from slipway.runners import local
from slipway.runners.base import Job, read_job_file
from slipway.system.json_files import read_json
from slipway.training.nemo.checkpoints import steps_done
from slipway.training.nemo.params import NemoTrainParams

if TYPE_CHECKING:  # a runner is imported where it is asked
    from slipway.runners.slurm_commands import QueuedJob

PREFIX = "slipway-"


@dataclass(frozen=True)
class TrainingJob:
    """`where`: process, container or Slurm job, in words; `state`: as its runner says; `saved`: steps safe on disk."""

    name: str
    where: str
    state: str
    followed: bool
    saved: int
    stop: str

    def to_json(self) -> dict[str, Any]:
        """The job as JSON values."""
        return asdict(self)


def training_jobs(config: Config) -> tuple[list[TrainingJob], list[dict[str, str]]]:
    """Jobs that run for this store, and what is left over: jobs without a follower, strangers, machines that do not
    answer."""
    jobs: list[TrainingJob] = []
    left: list[dict[str, str]] = []
    asked = Asked()
    for work in sorted(Path(config.store.root).glob("work/train_nemo-*")):
        target = _target(work)
        if target:
            jobs += _of_work(work, target, asked)
    runners = [config.target.runner, config.serving.runner]
    asked.ask_docker(*dict.fromkeys(runner.host for runner in runners if isinstance(runner, DockerConfig)))
    if any(isinstance(runner, SlurmConfig) for runner in runners):
        asked.slurm_jobs()
    servers = model_servers(Path(config.store.root))
    known = {job.name for job in jobs} | {server.name for server in servers}
    left += [
        {
            "what": f"{j.where} trains unfollowed ({j.saved} steps saved)",
            "advice": f"run again to adopt it, or end it: {j.stop}",
        }
        for j in jobs
        if not j.followed
    ]
    elsewhere = [(c.name, f"container {c.name} on {c.host}", f"`docker rm -f {c.name}`") for c in asked.containers()]
    elsewhere += [(q.name, f"Slurm job {q.job_id}", f"`scancel {q.job_id}`") for q in asked.listed_by_slurm]
    left += left_over(servers, elsewhere)
    left += [_stranger_container(c) for c in asked.containers() if c.name not in known]
    left += [_stranger_slurm_job(q) for q in asked.listed_by_slurm if q.name not in known]
    return jobs, left + asked.silent


class Asked:
    """What engines and controllers answered; each is asked once."""

    def __init__(self) -> None:
        self._docker: dict[str | None, list[Any]] = {}
        self._slurm: list[QueuedJob] | None = None
        self._slurm_asked = False
        self.silent: list[dict[str, str]] = []

    def ask_docker(self, *hosts: str | None) -> None:
        """List the containers of these engines, each engine once; one that does not answer becomes an entry of
        `silent`."""
        for host in hosts:
            if host not in self._docker:
                self._docker[host] = []
                try:
                    from slipway.runners.docker_container import list_jobs

                    self._docker[host] = list_jobs(host)
                except ImportError as err:
                    self.silent.append(
                        {"what": f"containers are not listed: {err}", "advice": "`pip install 'slipway[docker]'`"}
                    )
                except ResourceError as err:
                    self.silent.append(
                        {"what": f"{err.thing} does not answer: jobs there are not listed", "advice": err.next_step}
                    )

    def containers(self) -> Iterator[Any]:
        """Containers of every engine that answered."""
        for listed in self._docker.values():
            yield from listed

    @property
    def listed_by_slurm(self) -> list[QueuedJob]:
        """What Slurm listed, if it was asked."""
        return self._slurm or []

    def slurm_jobs(self) -> list[QueuedJob] | None:
        """This user's jobs that carry Slipway's labels, whichever store they are of; None when Slurm does not
        answer."""
        if not self._slurm_asked:
            from slipway.runners.slurm_commands import SilentError, list_jobs

            self._slurm_asked = True
            try:
                self._slurm = list_jobs()
            except (SilentError, ResourceError) as err:
                self.silent.append(
                    {
                        "what": f"Slurm does not answer: jobs there are not listed ({err})",
                        "advice": "`squeue --me` shows them",
                    }
                )
        return self._slurm


def _of_work(work: Path, target: TargetConfig, asked: Asked) -> Iterator[TrainingJob]:
    name, nemo = f"{PREFIX}{work.name}", work / "nemo"
    followed = local.alive(Job(work.name, (), work))
    saved = steps_done(nemo / "ckpt")
    runner = target.runner
    if isinstance(runner, LocalRunConfig) and local.alive(Job(name, (), nemo)):
        pid = local.pid(Job(name, (), nemo))
        yield TrainingJob(name, f"process {pid}", "running", followed, saved, f"`kill {pid}`")
    elif isinstance(runner, DockerConfig):
        asked.ask_docker(runner.host)
        for listed in asked.containers():
            if listed.name == name:
                yield TrainingJob(
                    name, f"container {name} on {listed.host}", listed.state, followed, saved, f"`docker stop {name}`"
                )
    elif isinstance(runner, SlurmConfig):
        from slipway.runners.slurm import JOB_FILE

        yield from _of_slurm(name, read_job_file(nemo / JOB_FILE).get("job_id"), asked, followed, saved)


def _of_slurm(name: str, recorded: int | None, asked: Asked, followed: bool, saved: int) -> Iterator[TrainingJob]:
    """Slurm's jobs of this name; the recorded one in an unknown state while Slurm does not answer."""
    queued = asked.slurm_jobs()
    if queued is None and recorded:
        yield TrainingJob(name, f"Slurm job {recorded}", "unknown", followed, saved, f"`scancel {recorded}`")
    for job in queued or ():
        if job.name == name:
            yield TrainingJob(name, f"Slurm job {job.job_id}", job.state, followed, saved, f"`scancel {job.job_id}`")


def _target(work: Path) -> TargetConfig | None:
    """Where the stage of this folder trains; None when its job file is of another version or half gone."""
    try:
        document = read_json(work / STAGE_FILE, "stage file", "`slipway run` writes it anew")
        return NemoTrainParams.model_validate(document["params"]).target
    except (StateError, KeyError, ValidationError):
        return None


def _stranger_container(container: Any) -> dict[str, str]:
    return {
        "what": f"container {container.name} ({container.state}) on {container.host}, which this store does not know",
        "advice": "another store's or clone's job, or one whose work folder is gone: `docker rm -f "
        f"{container.name}` removes it",
    }


def _stranger_slurm_job(queued: QueuedJob) -> dict[str, str]:
    return {
        "what": f"Slurm job {queued.job_id} {queued.name} ({queued.state}, {queued.age}), which this store does "
        "not know",
        "advice": f"another store's or clone's job, or one whose work folder is gone: `scancel {queued.job_id}` "
        "ends it",
    }
