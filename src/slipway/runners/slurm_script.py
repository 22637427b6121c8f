"""The batch script of a job: what sbatch is given, rendered from the target's row.

One script serves every attempt of a job. It fences the attempt before it (fence.py), starts one task a node through
srun, and turns Slurm's warning before the time limit into a stop of the workers, after which it asks to be requeued.
Signals never go through srun: a launcher like torchrun, told to stop, kills its workers after a grace of its own. A
stop is a file that the holder on every node sees.

    work/fence/     epochs, beats, `stop-N` (who asks), `told-N` (a step was signalled); /fence in the container
    work/fence.py   the copy that the nodes run
    work/exit       `attempt code why` of the attempts that ended, a line each
"""

from __future__ import annotations

import shlex
import shutil
from importlib.resources import files
from pathlib import Path

from slipway.config.image import ImageConfig
from slipway.config.target import SlurmConfig, TargetConfig
from slipway.containers.images import pinned
from slipway.errors import ConfigError
from slipway.runners.base import Job, Mount
from slipway.system.files import write_atomic

FENCE, SCRIPT, EXIT = "fence", "job.sbatch", "exit"
ENTRY, MODULE = "automodel", "nemo_automodel.cli.app"
FIRST_PORT, PORTS = 20000, 12000  # below the kernel's ephemeral range


def write(job: Job, params: SlurmConfig, target: TargetConfig, image: ImageConfig | None, name: str) -> Path:
    """Write the script, and the fence beside it, into the job's folder; the script's path. `name`: the Slurm job's
    name.
    """
    write_atomic(job.work / "fence.py", files("slipway.runners").joinpath("fence.py").read_text(encoding="utf-8"))
    (job.work / FENCE).mkdir(exist_ok=True)
    write_atomic(job.work / SCRIPT, render(job, params, target, image, name))
    return job.work / SCRIPT


def render(job: Job, params: SlurmConfig, target: TargetConfig, image: ImageConfig | None, name: str) -> str:
    """The script's text. Raises ConfigError for an image that is not pinned, or a path that Pyxis cannot mount."""
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH {option}" for option in options(job, params, target, name)),
        *_head(job, params, target),
    ]
    return "\n".join([*lines, *_step(job, params, target, image), *_TAIL]) + "\n"


def options(job: Job, params: SlurmConfig, target: TargetConfig, name: str) -> list[str]:
    """sbatch's options. One attempt writes its output behind the last one's, and a job whose dependency failed ends."""
    labels = " ".join(f"{k}={v}" for k, v in {**job.labels, "slipway.job": job.name}.items())
    lines = [
        f"--job-name={name}",
        f"--comment={shlex.quote(labels)}",
        f"--nodes={target.nodes}",
        "--ntasks-per-node=1",
        f"--time={params.time_limit}",
        f"--signal=B:USR1@{params.signal_s}",
        "--requeue",
        "--open-mode=append",
        f"--output={shlex.quote(str(job.log))}",
        f"--chdir={shlex.quote(str(job.work))}",
        "--kill-on-invalid-dep=yes",
    ]
    if target.gpus:
        lines.append(f"--gpus-per-node={target.gpus}")
    for key in ("partition", "account", "qos"):
        if value := getattr(params, key):
            lines.append(f"--{key}={value}")
    if params.container:  # the submitter's environment means nothing in the image
        lines.append("--export=NONE")
    return [*lines, *params.extra]


def command(job: Job, target: TargetConfig, port: str = "$port") -> list[str]:
    """The job's command as every node runs it, quoted for bash. Several nodes: torchrun finds its peers in place of
    `automodel`.
    """
    argv = list(job.argv)
    if target.nodes == 1 or ENTRY not in argv:
        return [shlex.quote(a) for a in argv]
    at = argv.index(ENTRY)
    recipe = [a for i, a in enumerate(argv[at + 1 :]) if "--nproc-per-node" not in argv[at + i : at + i + 2]]
    meet = [
        "torchrun",
        "--nnodes",
        str(target.nodes),
        "--nproc-per-node",
        str(job.processes),
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        f'"$head:{port}"',
        "--rdzv-id",
        '"$token"',
        "-m",
        MODULE,
    ]
    return [*(shlex.quote(a) for a in argv[:at]), *meet, *(shlex.quote(a) for a in recipe)]


def container_uri(image: ImageConfig, arch: str) -> str:
    """enroot's name of the pinned image: `REGISTRY#IMAGE:sha256:...`. Its grammar has no `@`; what follows `:` goes
    into the registry's manifest URL as it is, and a digest there is as good as a tag. Raises ConfigError when it is not
    pinned.
    """
    digest = pinned(image, arch).rpartition("@")[2]
    registry, slash, path = image.repository.partition("/")
    if not slash or not set(registry) & set(".:"):
        return f"{image.repository}:{digest}"
    return f"{registry}#{path}:{digest}"


def container(job: Job, params: SlurmConfig, target: TargetConfig, image: ImageConfig | None) -> list[str]:
    """Pyxis' options of the step: the image and its mounts."""
    if not params.container:
        return []
    if image is None:
        raise ConfigError(
            "target.runner.image", params.image, "a row of conf/images.yaml", "add it, and pin it with `slipway pin`"
        )
    mounts = [
        *job.mounts,
        Mount(job.work / FENCE, "/fence", read_only=False),
        Mount(job.work / "fence.py", "/fence.py"),
    ]
    return [
        f"--container-image={container_uri(image, target.arch)}",
        f"--container-mounts={','.join(_mount(m) for m in mounts)}",
        "--container-workdir=/tmp",
        "--no-container-mount-home",
        "--no-container-entrypoint",
    ]


def checkpoints(job: Job) -> Path:
    """The folder that only one attempt may write: the job's first writable mount, or `ckpt` in its own folder."""
    return next((m.source for m in job.mounts if not m.read_only), job.work / "ckpt")


def _mount(mount: Mount) -> str:
    for path in (str(mount.source), mount.target):
        if set(path) & set(",:"):
            raise ConfigError(
                "mount for Pyxis", path, "a path without `,` and `:`", "move the store or the model to such a path"
            )
    return f"{mount.source}:{mount.target}{':ro' if mount.read_only else ''}"


def _head(job: Job, params: SlurmConfig, target: TargetConfig) -> list[str]:
    return [
        "# Rendered by slipway: every attempt of one job. It fences the attempt before it, runs, and comes back",
        "# after a time limit.",
        "set -u",
        *_tools(params),
        "export SLURM_EXPORT_ENV=ALL  # --export of sbatch is not meant for the step",
        # torchrun that is signalled all the same waits for its workers' save, not for its own 30 s
        f"export TORCH_ELASTIC_SHUTDOWN_TIMEOUT={max(30, int(job.stop_s))}",
        f"work={shlex.quote(str(job.work))}",
        'token="$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}"',
        f"port=$(({FIRST_PORT} + SLURM_JOB_ID % {PORTS}))",
        'why="" step="" epoch=""',
        'stop() { why=$1; [ -z "$epoch" ] || : > "$work/fence/stop-$epoch"; }',
        "trap 'stop limit' USR1",
        "trap 'stop told' TERM",
        f'epoch=$(python3 "$work/fence.py" take "$work/{FENCE}" "$token" '
        f"{shlex.quote(str(checkpoints(job)))} {target.nodes} {params.lease_s:g}) || exit 75",
        '[ -z "$why" ] || stop "$why"',
        f'lease="{params.lease_s:g}"',
        *_address(target),
    ]


def _tools(params: SlurmConfig) -> list[str]:
    """Where Slurm's commands are, for nodes that start a script with the bare PATH of `--export=NONE`."""
    srun = shutil.which("srun") if params.container else None
    return [f'PATH="$PATH:"{shlex.quote(str(Path(srun).parent))}'] if srun else []


def _address(target: TargetConfig) -> list[str]:
    """Where node 0 is reached: its address as Slurm knows it, because a node's name need not resolve in a container."""
    if target.nodes == 1:
        return []
    return [
        'head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
        "head=$(scontrol -o show node \"$head\" | sed -n 's/.* NodeAddr=\\([^ ]*\\).*/\\1/p')",
    ]


def _step(job: Job, params: SlurmConfig, target: TargetConfig, image: ImageConfig | None) -> list[str]:
    """srun of one task a node. bash in between: only the node knows its number, and what it exports wins over the
    image's variables.
    """
    fence, script = ("/fence", "/fence.py") if params.container else (f'"$work/{FENCE}"', '"$work/fence.py"')
    host = "export PET_RDZV_CONF=is_host=$((SLURM_NODEID == 0)); " if target.nodes > 1 else ""
    hold = 'exec python3 "$script" hold "$fence" "$epoch" "$SLURM_NODEID" "$lease" -- "$@"'
    exports = "".join(f"export {k}={shlex.quote(v)}; " for k, v in job.env.items())
    inner = f"{exports}{host}fence=$1 script=$2 epoch=$3 lease=$4; shift 4; {hold}"
    parts = ["srun --kill-on-bad-exit=1", *(shlex.quote(o) for o in container(job, params, target, image))]
    parts += [
        f'bash -c {shlex.quote(inner)} slipway {fence} {script} "$epoch" "$lease"',
        " ".join(command(job, target)),
    ]
    return [" \\\n  ".join(parts) + " &"]


# `wait` returns early for a trapped signal; the loop ends when the step is gone, and the last `wait` has its exit code.
_TAIL = [
    "step=$!",
    'while wait "$step"; kill -0 "$step" 2> /dev/null; do :; done',
    'wait "$step"; code=$?',
    '[ -n "$why" ] || [ ! -e "$work/fence/told-$epoch" ] || why=told',
    f'echo "$token $code $why" >> "$work/{EXIT}"',
    "# Stopped by Slurm (time limit, preemption) and saved, not finished as far as this script can tell: the same job",
    "# goes on later.",
    "# A job that somebody cancels is not RUNNING any more.",
    'if [ -n "$why" ] && { [ "$code" = 0 ] || [ "$code" = 143 ]; } &&',
    '  [ "$(squeue --noheader --job="$SLURM_JOB_ID" --format=%T)" = RUNNING ]; then',
    '  scontrol requeue "$SLURM_JOB_ID" && sleep 300',
    "fi",
    'exit "$code"',
]
