"""The training log: exact lines and spoken ones merged, each step once, whatever a kill left behind."""

import json

from slipway.training.nemo.log import TrainingLog


def logged(step, loss=2.0, prefix="2026-11-23 18:58:53 | INFO | root | "):
    return (
        f"{prefix}step {step} | epoch 0 | loss {loss:.4f} | grad_norm 3.7702 | lr 1.00e-02 | mem 6.10 GiB | "
        f"tps 210.37(105.18/gpu) | num_label_tokens 565\n"
    )


def exact(step, loss=2.0, **more):
    return (
        json.dumps({"step": step, "epoch": 0, "loss": loss, "tps": 210.365, "num_tokens_per_step": 982, **more}) + "\n"
    )


def log(tmp_path):
    return (
        TrainingLog(tmp_path / "training.jsonl", tmp_path / "log.txt"),
        tmp_path / "training.jsonl",
        tmp_path / "log.txt",
    )


def test_steps_are_heard_at_once_and_told_once(tmp_path):
    training, jsonl, output = log(tmp_path)
    assert training.new_steps() == []
    output.write_text("Training:   0%|          | 0/8\r" + logged(0, 6.7251))
    (first,) = training.new_steps()
    assert first == {
        "step": 0,
        "epoch": 0,
        "loss": 6.7251,
        "grad_norm": 3.7702,
        "lr": 0.01,
        "mem": 6.1,
        "tps": 210.37,
        "num_label_tokens": 565,
    }
    assert training.new_steps() == []
    jsonl.write_text(exact(0, 6.725117) + exact(1, 6.5))
    assert [s["step"] for s in training.new_steps()] == [1]
    assert training.history()[0]["loss"] == 6.725117, "the exact line replaces the rounded one"


def test_a_half_written_line_waits_for_its_end(tmp_path):
    training, jsonl, output = log(tmp_path)
    jsonl.write_text(exact(0)[:-20])
    output.write_text(logged(1)[:-30])
    assert training.new_steps() == []
    jsonl.write_text(exact(0))
    output.write_text(logged(1))
    assert [s["step"] for s in training.new_steps()] == [0, 1]


def test_a_resume_repeats_steps_and_its_word_is_the_last(tmp_path):
    training, jsonl, _ = log(tmp_path)
    jsonl.write_text("".join(exact(n, 5.0) for n in range(4)))
    assert len(training.new_steps()) == 4
    with jsonl.open("a") as f:  # killed inside a line; the next attempt goes on behind it
        f.write('{"step": 4, "los' + exact(3, 3.5) + exact(2, 4.5) + exact(4, 3.0))
    assert [s["step"] for s in training.new_steps()] == [4]
    assert [s["loss"] for s in training.history()] == [5.0, 5.0, 4.5, 3.5, 3.0]


def test_what_is_no_step_is_passed_over(tmp_path):
    training, jsonl, output = log(tmp_path)
    jsonl.write_text('[1]\n{}\n{"step": true, "loss": 1}\n{"step": 1}\nnot json\n')
    output.write_text("step 3 | epoch 0 | loss said\n" + logged(7).replace("3.7702", "n/a"))
    assert training.new_steps() == [] and training.history() == []


def test_steps_lost_from_memory_by_a_kill_are_kept_from_the_output(tmp_path):
    training, jsonl, output = log(tmp_path)
    output.write_text("".join(logged(n, 9 - n) for n in range(6)))
    jsonl.write_text("".join(exact(n, 8.5 - n) for n in range(4, 8)))
    training.new_steps()
    training.write(tmp_path / "history.jsonl", 7)
    lines = [json.loads(x) for x in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [(x["step"], x["loss"]) for x in lines] == [(0, 9), (1, 8), (2, 7), (3, 6), (4, 4.5), (5, 3.5), (6, 2.5)]


def test_a_log_that_was_replaced_is_read_from_its_start(tmp_path):
    training, _, output = log(tmp_path)
    output.write_text(logged(0) + logged(1))
    training.new_steps()
    output.write_text(logged(2))
    assert [s["step"] for s in training.new_steps()] == [2]
