"""The job of a training: what it mounts, what it runs, what it looks at first; as a container, under Slurm and as a
process."""

import json
import sys

from slipway.config.target import DockerConfig, SlurmConfig
from slipway.planning.training_memory import adapter_parameters
from slipway.training.nemo.job import linked_folders, write_job
from slipway.training.nemo.params import STOP_S


def test_a_container_finds_everything_at_fixed_places(files, tmp_path):
    one = files(DockerConfig(kind="docker"), gpus=2)
    job = write_job(one, "the recipe")
    assert job.argv == ("python3", "/job/start.py", "--", "automodel", "/job/recipe.yaml", "--nproc-per-node", "2")
    assert (job.name, job.processes, job.stop_s) == ("slipway-train_nemo-abc", 2, STOP_S)
    assert {m.target: m.source for m in job.mounts if not m.read_only} == {"/ckpt": one.checkpoints}
    seen = {m.target: m.source for m in job.mounts if m.read_only}
    assert {k: seen[k] for k in ("/models/pico", "/job")} == {
        "/models/pico": one.base.path,
        "/job": one.job,
    }
    assert job.env["HF_HUB_OFFLINE"] == "1" and job.labels["slipway.stage"] == "train_nemo"
    assert (one.job / "recipe.yaml").read_text() == "the recipe"
    assert one.paths().model == "/models/pico" and one.paths().train == "/job/rows/train"
    assert (one.job / "labelled_rows.py").is_file() and one.paths().reader == "/job/labelled_rows.py"


def test_a_model_kept_by_reference_is_mounted_at_every_hop_of_its_links(files, tmp_path):
    one = files(DockerConfig(kind="docker"))
    assert linked_folders(one.base.path) == [tmp_path / "blobs", tmp_path / "hub"]
    assert {str(m.source): m.target for m in one.mounts()}[str(tmp_path / "blobs")] == str(tmp_path / "blobs")


def test_without_a_container_the_job_sees_the_paths_themselves(files):
    local, slurm = files(), files(SlurmConfig(kind="slurm", container=False))
    assert local.mounts() == slurm.mounts() == ()
    assert write_job(local, "").argv[0] == sys.executable and write_job(slurm, "").argv[0] == "python3"
    assert local.paths().model == str(local.base.path) and local.paths().checkpoints == str(local.checkpoints)


def test_the_preflight_asks_for_room_for_every_checkpoint_kept(files):
    one = files(gpus=1, keep_checkpoints=3)
    write_job(one, "")
    wants = json.loads((one.job / "preflight.json").read_text())
    assert wants["gpus"] == 1 and wants["read"][1].endswith("rows/train/tokens.npy")
    assert wants["write"]["free_bytes"] == 5 * 12 * adapter_parameters(one.params.model, one.params.train)
    write_job(files(gpus=1, keep_checkpoints=3, method="sft"), "")
    wants = json.loads((one.job / "preflight.json").read_text())
    assert wants["write"]["free_bytes"] == 5 * 12 * 200_000, "every parameter of the model row"


def test_no_validation_rows_no_validation(files):
    one = files()
    assert one.paths().validation.endswith("/job/rows/val")
    (one.data.path / "val.jsonl").write_text("")
    assert one.paths().validation is None
