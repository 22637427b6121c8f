"""Which checkpoints count: complete ones, by step number."""

from slipway.training.nemo.checkpoints import complete, latest, steps_done


def save(root, name, *, whole=True):
    (root / name / "model").mkdir(parents=True)
    if not whole:
        (root / name / ".incomplete").touch()


def test_an_interrupted_save_does_not_count(tmp_path):
    save(tmp_path, "epoch_0_step_9")
    save(tmp_path, "epoch_1_step_10")
    save(tmp_path, "epoch_1_step_19", whole=False)
    (tmp_path / "LATEST").symlink_to("epoch_1_step_19")
    (tmp_path / "epoch_2_step_30").symlink_to("epoch_0_step_9")
    save(tmp_path, "epoch_1_step_20.reserving-abc")
    assert [s.step for s in complete(tmp_path)] == [9, 10]
    assert latest(tmp_path).model == tmp_path / "epoch_1_step_10" / "model"
    assert latest(tmp_path).consolidated == tmp_path / "epoch_1_step_10" / "model" / "consolidated"
    assert steps_done(tmp_path) == 11


def test_nothing_there_is_no_step(tmp_path):
    assert latest(tmp_path / "absent") is None and steps_done(tmp_path) == 0
