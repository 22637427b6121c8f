"""The docker runner against a real engine: podman's Docker API, a real registry with real indexes, a real training
container."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slipway.config.image import ImageConfig
from slipway.config.target import DockerConfig, TargetConfig
from slipway.containers import docker_client
from slipway.containers.images import read_digests
from slipway.errors import ConfigError, ResourceError
from slipway.runners.base import Job, Mount, State, follow
from slipway.runners.docker import DockerRunner
from slipway.runners.docker_container import list_jobs
from tests.lab.podman_lab import INFRA
from tests.lab.trainer_run import steps_logged

SH = ("/bin/sh", "-c")
# docker's client leaves the socket of a refused connection to the garbage collector, and here engines are killed at any
# moment
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def lab(podman_lab):
    """The lab, and proof that a test leaves no container of Slipway's behind."""
    yield podman_lab
    if left := podman_lab.podman("ps", "--all", "--format", "{{.Names}}").split():
        podman_lab.podman("rm", "--all", "--force", "--time", "0")
    assert left == []


def until(condition, seconds=300.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def end(runner, job):
    until(lambda: runner.poll(job) is not None)
    return runner.poll(job)


def log_has(job, text):
    return job.log.exists() and text in job.log.read_text()


def whole_log(lab, job):
    """From where the container began, the job's log is its output, byte for byte."""
    engine_log = subprocess.run(
        ["podman", "logs", job.name], env=lab.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True
    ).stdout
    assert (
        job.log.read_bytes()[json.loads((job.work / "docker.json").read_text())["log_from"] :] == engine_log
        and engine_log
    )


def test_a_job_trains_with_its_mounts_variables_and_labels(lab, tmp_path):
    runner, job = lab.runner(), lab.training(tmp_path, "train-ok")
    assert runner.submit(job) is False
    ended = end(runner, job)
    assert (ended.state, ended.code) == (State.DONE, 0) and 0.1 < ended.seconds < 60
    assert steps_logged(tmp_path / "ckpt") == list(range(12)) and (tmp_path / "ckpt" / "LATEST" / "model").is_dir()
    (made,) = json.loads(lab.podman("inspect", job.name))
    assert (
        made["Config"]["Labels"].items()
        >= {"slipway.job": job.name, "slipway.run": "r1", "slipway.stage": "train_nemo"}.items()
    )
    assert {"HF_HUB_OFFLINE=1", "TRANSFORMERS_OFFLINE=1", "HF_DATASETS_OFFLINE=1", "TRAINER_BUFFER=1"} <= set(
        made["Config"]["Env"]
    )
    assert made["ImageDigest"] == lab.image.digests[lab.arch]
    assert {u["Name"]: u["Hard"] for u in made["HostConfig"]["Ulimits"]}["RLIMIT_STACK"] == 64 << 20
    assert made["Config"]["StopTimeout"] == 20 and made["Config"]["WorkingDir"] == "/tmp"
    listed = list_jobs(lab.host)
    assert [(c.name, c.state, c.run, c.stage) for c in listed] == [(job.name, "exited", "r1", "train_nemo")]
    whole_log(lab, job)
    runner.forget(job)


def test_read_only_mounts_are_read_only_and_memory_is_shared(lab, tmp_path):
    (tmp_path / "data").mkdir()
    script = "ls -l /proc/self/ns/ipc; touch /data/x && exit 9; touch /ckpt/y || exit 8; exit 0"
    mounts = (Mount(tmp_path / "data", "/data"), Mount(tmp_path, "/ckpt", read_only=False))
    runner, job = lab.runner(), Job("readonly", (*SH, script), tmp_path, mounts=mounts)
    assert follow(runner, job, lambda: None).code == 0
    assert (
        str(Path("/proc/self/ns/ipc").readlink()) in job.log.read_text()
    )  # --ipc=host; podman's inspect says otherwise
    assert (tmp_path / "y").exists() and not (tmp_path / "data" / "x").exists()
    runner.forget(job)


def test_checkpoints_belong_to_a_submitter_who_is_not_root(lab, tmp_path, monkeypatch):
    """The job runs as the submitter's user id, which the image knows nothing of."""
    job = lab.training(tmp_path, "owned")
    for folder in (tmp_path.parent, tmp_path):
        folder.chmod(0o755)
    os.chown(tmp_path / "ckpt", 4321, 4321)
    monkeypatch.setattr(os, "getuid", lambda: 4321)
    monkeypatch.setattr(os, "getgid", lambda: 4321)
    runner = lab.runner()
    assert follow(runner, job, lambda: None).state is State.DONE
    assert {p.lstat().st_uid for p in (tmp_path / "ckpt").rglob("*")} == {4321}
    runner.forget(job)


def test_an_exit_code_and_a_kill_are_told_apart(lab, tmp_path):
    runner, job = lab.runner(), lab.training(tmp_path / "a", "exit-7", TRAINER_DIE="2:7")
    ended = follow(runner, job, lambda: None)
    assert (ended.state, ended.code, ended.reason) == (State.FAILED, 7, "exit code 7") and log_has(
        job, "told to die after step 2"
    )
    runner.forget(job)
    job = lab.training(tmp_path / "b", "killed", step_s=0.5)
    runner.submit(job)
    until(lambda: runner.poll(job) or log_has(job, "step 0"))
    lab.podman("kill", "--signal", "KILL", job.name)
    ended = end(runner, job)
    assert (ended.state, ended.code) == (State.FAILED, -9) and "perhaps for memory" in ended.reason
    runner.forget(job)


def test_a_stopped_job_saves_and_goes_on_from_there(lab, tmp_path):
    runner, job = lab.runner(), lab.training(tmp_path, "stopped", step_s=0.2)
    runner.submit(job)
    until(lambda: runner.poll(job) or log_has(job, "step 1 "))
    ended = runner.cancel(job)
    assert (ended.state, ended.code) == (State.CANCELLED, 0) and runner.poll(job) == ended
    saved = (tmp_path / "ckpt" / "LATEST").resolve().name
    assert log_has(job, "stopped by SIGTERM") and not saved.endswith("_11")
    runner.forget(job)
    again = lab.training(tmp_path, "stopped")
    assert runner.submit(again) is False and end(runner, again).state is State.DONE
    assert steps_logged(tmp_path / "ckpt") == list(range(12)) and log_has(job, f"Loading checkpoint from /ckpt/{saved}")
    runner.forget(again)


def test_what_ignores_sigterm_is_killed_after_its_time(lab, tmp_path):
    job = Job("stubborn", (*SH, "trap '' TERM; echo on; while :; do sleep 0.1; done"), tmp_path, stop_s=0.5)
    runner = lab.runner()
    runner.submit(job)
    until(lambda: runner.poll(job) or log_has(job, "on"))
    assert runner.cancel(job).code == -9
    runner.forget(job)


ORCHESTRATOR = """
import json, sys, time
from pathlib import Path
from slipway.runners.docker import DockerRunner
from slipway.runners.base import Job, Mount, follow
from slipway.config.image import ImageConfig
from slipway.config.target import TargetConfig
job, target, image = json.load(open(sys.argv[1]))
job = Job(job["name"], tuple(job["argv"]), Path(job["work"]), env=job["env"], stop_s=20,
          labels={"slipway.run": "r1", "slipway.stage": "train_nemo"},
          mounts=tuple(Mount(Path(s), t, r) for s, t, r in job["mounts"]))
target = TargetConfig.model_validate(target)
runner = DockerRunner(target.runner, target, ImageConfig.model_validate(image))
print(runner.submit(job), flush=True)
while runner.poll(job) is None:
    time.sleep(0.05)
print(runner.poll(job).state, flush=True)
"""


def orchestrator(lab, job, tmp_path):
    """A process of its own that submits the job and follows it."""
    doc = {"name": job.name, "argv": job.argv, "work": str(job.work), "env": dict(job.env)}
    doc["mounts"] = [(str(m.source), m.target, m.read_only) for m in job.mounts]
    (tmp_path / "order.json").write_text(json.dumps([doc, lab.target().model_dump(), lab.image.model_dump()]))
    return subprocess.Popen(
        [sys.executable, "-c", ORCHESTRATOR, tmp_path / "order.json"], stdout=subprocess.PIPE, text=True
    )


def killed(process):
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()


def test_a_job_whose_orchestrator_was_killed_is_adopted_and_nothing_is_trained_twice(lab, tmp_path):
    job = lab.training(tmp_path, "adopted", max_steps=30, step_s=0.1)
    first = orchestrator(lab, job, tmp_path)
    until(lambda: first.poll() is not None or log_has(job, "step 3 "))
    killed(first)
    runner = lab.runner()
    assert runner.submit(job) is True
    assert end(runner, job).state is State.DONE
    assert steps_logged(tmp_path / "ckpt") == list(range(30))
    whole_log(lab, job)
    runner.forget(job)


def test_a_job_that_ended_while_nobody_looked_is_not_run_again(lab, tmp_path):
    job = lab.training(tmp_path, "unseen", step_s=0.05, TRAINER_DIE="6:5")
    first = orchestrator(lab, job, tmp_path)
    until(lambda: first.poll() is not None or log_has(job, "step 0 "))
    killed(first)
    until(lambda: list_jobs(lab.host)[0].state == "exited")
    runner = lab.runner()
    assert runner.submit(job) is True
    ended = runner.poll(job)
    assert (ended.state, ended.code) == (State.FAILED, 5)
    whole_log(lab, job)
    again = lab.training(tmp_path, "unseen")
    assert runner.submit(again) is False  # its outcome was read: submitting again is a new attempt, which resumes
    assert end(runner, again).code == 0 and steps_logged(tmp_path / "ckpt") == [*range(7), *range(4, 12)]
    runner.forget(job)


def test_two_orchestrators_make_one_container(lab, tmp_path):
    job = lab.training(tmp_path, "race", step_s=0.1)
    racing = [orchestrator(lab, job, tmp_path) for _ in range(2)]
    answers = [p.communicate()[0].split() for p in racing]
    assert sorted(s[0] for s in answers) == ["False", "True"] and [s[1] for s in answers] == ["done", "done"]
    assert steps_logged(tmp_path / "ckpt") == list(range(12))
    whole_log(lab, job)
    lab.runner().forget(job)


def test_a_container_made_but_not_started_is_started(lab, tmp_path):
    job = Job("created", (*SH, "echo ran"), tmp_path)
    lab.podman("create", "--name", job.name, "--label", f"slipway.job={job.name}", reference(lab), *job.argv)
    runner = lab.runner()
    assert runner.submit(job) is True and end(runner, job).code == 0 and job.log.read_text() == "ran\n"
    runner.forget(job)


def test_a_container_of_someone_elses_is_left_alone(lab, tmp_path):
    lab.podman("create", "--name", "theirs", reference(lab), "/bin/sh")
    with pytest.raises(ConfigError, match=r"theirs: not Slipway's"):
        lab.runner().submit(Job("theirs", (*SH, "exit 0"), tmp_path))
    lab.podman("rm", "theirs")


def test_a_container_removed_by_someone_is_lost(lab, tmp_path):
    runner, job = lab.runner(), Job("removed", (*SH, "sleep 60"), tmp_path)
    runner.submit(job)
    assert runner.poll(job) is None
    lab.podman("rm", "--force", "--time", "0", job.name)
    assert end(runner, job).state is State.LOST
    runner.forget(job)


def test_output_of_any_size_arrives_whole(lab, tmp_path):
    """Long lines, no newline at the end, both streams; a copy that was cut goes on where it was."""
    code = (
        "import sys; [print(f'{i} ' + 'x' * 200, flush=i % 100 == 0) for i in range(5000)]; sys.stdout.write('y' "
        "* 50000); sys.stdout.flush()"
    )
    runner, job = lab.runner(), Job("chatty", ("python3", "-c", code), tmp_path)
    runner.submit(job)
    end(runner, job)
    text = job.log.read_text()
    assert text.startswith("0 x") and text.count("\n") >= 5000 and text.count("y") == 50000
    whole = job.log.read_bytes()
    for cut in (0, 7, 16385, len(whole) - 3):
        job.log.write_bytes(whole[:cut])
        again = lab.runner()
        assert again.submit(job) is True and again.poll(job).code == 0
        assert hashlib.sha256(job.log.read_bytes()).digest() == hashlib.sha256(whole).digest()
    runner.forget(job)


def reference(lab):
    return f"{lab.image.repository}@{lab.image.digests[lab.arch]}"


def with_digest(lab, digest, **more):
    target = lab.target()
    image = lab.image.model_copy(update={"digests": {lab.arch: digest}, **more})
    return DockerRunner(target.runner, target, image)


def test_an_image_of_another_architecture_is_refused_before_the_pull(lab, tmp_path):
    other = next(a for a in lab.image.digests if a != lab.arch)
    with pytest.raises(ConfigError, match=rf"{other} in the registry; expected {lab.arch}"):
        with_digest(lab, lab.image.digests[other]).submit(Job("wrong", ("sh",), tmp_path))
    assert lab.image.digests[other] not in lab.podman("images", "--digests", "--format", "{{.Digest}}")


def test_an_image_of_another_architecture_is_refused_after_the_pull(lab, tmp_path):
    """Podman pulls it without a word; its name is pinned as if it were ours."""
    other = next(a for a in lab.image.digests if a != lab.arch)
    wrong = f"{lab.image.repository}@{lab.image.digests[other]}"
    lab.podman("pull", "-q", wrong)
    with pytest.raises(ConfigError, match=rf"{other} on unix:.*expected {lab.arch}"):
        with_digest(lab, lab.image.digests[other]).submit(Job("wrong", ("sh",), tmp_path))
    lab.podman("rmi", wrong)


def test_a_target_of_another_architecture_than_the_machine_is_refused(lab, tmp_path):
    other = next(a for a in lab.image.digests if a != lab.arch)
    target = TargetConfig(name="spark", arch=other, runner=DockerConfig(kind="docker", host=lab.host))
    with pytest.raises(ConfigError, match=rf"machine unix:.*: {lab.arch}; expected {other}"):
        DockerRunner(target.runner, target, lab.image).submit(Job("wrong", ("sh",), tmp_path))


def test_an_index_that_lies_about_an_architecture_is_not_pinned(lab):
    with pytest.raises(ConfigError, match=r"arm64 in the registry|amd64 in the registry"):
        read_digests(ImageConfig(repository=lab.image.repository, tag="wrong"))


def test_digests_come_from_an_index_and_from_a_single_image(lab):
    assert set(lab.image.digests) == {"amd64", "arm64"}
    single = read_digests(ImageConfig(repository=lab.image.repository, tag="arm64"))
    assert single == {"arm64": lab.image.digests["arm64"]}


def test_slipway_pin_writes_what_the_registry_has(lab, tmp_path):
    file = tmp_path / "images.yaml"
    file.write_text(
        f'description: Images\ntrainer:\n  repository: {lab.image.repository}\n  tag: "1"  # ours\n  digests: {{}}\n'
    )
    completed = subprocess.run(
        [sys.executable, "-m", "slipway", "pin", "--conf", tmp_path, "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(completed.stdout) == {"trainer": lab.image.digests}
    assert (
        all(f"    {arch}: {digest}\n" in file.read_text() for arch, digest in lab.image.digests.items())
        and "# ours" in file.read_text()
    )


def test_an_index_digest_is_no_pin(lab, tmp_path):
    raw = subprocess.run(
        [
            "curl",
            "-s",
            "-H",
            "Accept: application/vnd.oci.image.index.v1+json",
            f"http://{lab.registry}/v2/lab/trainer/manifests/1",
        ],
        capture_output=True,
        check=True,
    ).stdout
    with pytest.raises(ConfigError, match="an index of several architectures"):
        with_digest(lab, f"sha256:{hashlib.sha256(raw).hexdigest()}").submit(Job("index", ("sh",), tmp_path))


def test_a_missing_image_or_digest_is_named(lab, tmp_path):
    job = Job("missing", ("sh",), tmp_path)
    with pytest.raises(ConfigError, match=r"the registry has no sha256:0000.*slipway pin"):
        with_digest(lab, "sha256:" + "0" * 64).submit(job)
    with pytest.raises(ConfigError, match="the registry has no"):
        with_digest(lab, "sha256:" + "1" * 64, repository=f"{lab.registry}/lab/absent").submit(job)
    with pytest.raises(ConfigError, match=r"pinned for none; expected a digest for .*slipway pin"):
        target = lab.target()
        DockerRunner(target.runner, target, ImageConfig(repository="x/y", tag="1")).submit(job)
    with pytest.raises(ResourceError, match=r"registry 127\.0\.0\.1:1: cannot be reached"):
        with_digest(lab, "sha256:" + "2" * 64, repository="127.0.0.1:1/x").submit(job)


def test_a_registry_with_a_password(lab, tmp_path, monkeypatch):
    locked = lab.env["LAB_LOCKED_REGISTRY"]
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    image = ImageConfig(repository=f"{locked}/trainer", tag="1")
    with pytest.raises(ResourceError, match=rf"{locked} refuses \(401\).*docker login"):
        read_digests(image)
    subprocess.run(
        ["podman", "login", "--authfile", tmp_path / "config.json", "-u", "lab", "--password-stdin", locked],
        input="secret",
        env=lab.env,
        text=True,
        check=True,
        capture_output=True,
    )
    with pytest.raises(ConfigError, match="the registry has no 1"):
        read_digests(image)
    lab.podman(
        "push", "-q", "--authfile", str(tmp_path / "config.json"), reference(lab), f"docker://{locked}/trainer:1"
    )
    assert set(read_digests(image)) == {lab.arch}


def test_a_missing_mount_is_named_before_anything_starts(lab, tmp_path):
    job = Job("mountless", ("sh",), tmp_path, mounts=(Mount(tmp_path / "absent", "/data"),))
    with pytest.raises(ConfigError, match=r"mount /data of mountless: .*absent; expected an existing path"):
        lab.runner().submit(job)


def test_a_program_that_is_not_in_the_image_fails_the_job(lab, tmp_path):
    runner, job = lab.runner(), Job("absent-program", ("no-such-program",), tmp_path)
    ended = follow(runner, job, lambda: None)
    assert ended.state is State.FAILED and ended.code in (1, 127)  # catatonit's and tini's
    runner.forget(job)


def test_an_engine_that_is_not_there_is_named(lab, tmp_path, monkeypatch):
    monkeypatch.setattr("slipway.runners.docker.ANSWER_S", 0.5)
    with pytest.raises(ResourceError, match=r"docker engine unix:///nowhere\.sock: no answer .*docker info"):
        lab.runner("unix:///nowhere.sock").submit(Job("x", ("sh",), tmp_path))


def test_the_engine_restarted_in_the_middle_of_a_run(lab, tmp_path):
    runner, job = lab.runner(), lab.training(tmp_path, "restarted", max_steps=24, step_s=0.1)
    runner.submit(job)
    until(lambda: runner.poll(job) or log_has(job, "step 2 "))
    lab.engine("stop")
    assert runner.poll(job) is None
    until(lambda: len(steps_logged(tmp_path / "ckpt")) > 8)  # it trains on
    assert runner.poll(job) is None
    lab.engine("start")
    assert end(runner, job).state is State.DONE and steps_logged(tmp_path / "ckpt") == list(range(24))
    whole_log(lab, job)
    runner.forget(job)


def test_an_engine_that_stays_away_fails_the_follower_and_not_the_job(lab, tmp_path):
    runner, job = lab.runner(patience_s=1.0), lab.training(tmp_path, "away", max_steps=30, step_s=0.1)
    runner.submit(job)
    until(lambda: runner.poll(job) or log_has(job, "step 1 "))
    lab.engine("stop")
    with pytest.raises(ResourceError, match=r"docker engine unix:.*a job that runs there is adopted"):
        end(runner, job)
    lab.engine("start")
    again = lab.runner()
    assert again.submit(job) is True and end(again, job).state is State.DONE
    assert steps_logged(tmp_path / "ckpt") == list(range(30))
    whole_log(lab, job)
    again.forget(job)


@pytest.fixture
def ssh_host(lab, monkeypatch):
    up = subprocess.run(
        [INFRA / "podman" / "ssh-up", lab.folder], env=lab.env, capture_output=True, text=True, check=False
    )
    if up.returncode == 4:
        pytest.skip(f"lab podman: ssh: not run: {up.stderr.strip()}")
    assert up.returncode == 0, up.stderr
    monkeypatch.setenv("HOME", str(lab.folder / "ssh" / "home"))
    monkeypatch.setattr(docker_client, "LINK_S", 2)
    monkeypatch.setattr(docker_client, "CALL_S", 3.0)
    yield up.stdout.split()
    subprocess.run([INFRA / "podman" / "ssh-up", lab.folder, "down"], env=lab.env, check=True)


def test_an_engine_behind_ssh_whose_link_is_cut(lab, tmp_path, ssh_host):
    """First the session is killed, then the cable is pulled for some seconds; the job trains on, its log arrives
    whole."""
    link, host = ssh_host
    runner, job = lab.runner(host), lab.training(tmp_path, "far", max_steps=60, step_s=0.15)
    assert runner.submit(job) is False
    until(lambda: runner.poll(job) or log_has(job, "step 1 "))
    sessions = subprocess.run(["ip", "netns", "pids", link], capture_output=True, text=True, check=True).stdout.split()
    listener = (lab.folder / "ssh" / "sshd.pid").read_text().strip()
    for pid in sessions:
        if pid != listener:
            os.kill(int(pid), signal.SIGKILL)
    seen = len(job.log.read_text())
    until(lambda: runner.poll(job) or len(job.log.read_text()) > seen)
    subprocess.run(["ip", "link", "set", link, "down"], check=True)
    cut = time.monotonic()
    while time.monotonic() - cut < 4:
        assert runner.poll(job) is None  # answers with the link still down: only this test takes it up again
        time.sleep(0.1)
    subprocess.run(["ip", "link", "set", link, "up"], check=True)
    ended = end(runner, job)
    assert ended.state is State.DONE and steps_logged(tmp_path / "ckpt") == list(range(60))
    whole_log(lab, job)
    runner.forget(job)


def test_a_full_disk_of_the_log_is_named_and_nothing_is_lost(lab, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    try:
        (small / "filler").write_bytes(bytes(1 << 19))
        runner, job = lab.runner(), Job("fulldisk", ("python3", "-c", "print('x' * 700000)"), small)
        runner.submit(job)
        with pytest.raises(ResourceError, match="disk: full while writing"):
            end(runner, job)
        (small / "filler").unlink()
        assert end(runner, job).state is State.DONE
        whole_log(lab, job)
        runner.forget(job)
    finally:
        subprocess.run(["umount", small], check=True)
