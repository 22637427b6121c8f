"""Writing safetensors: the library reads it back, shards are bounded, and nothing is published before it is whole."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import load_file

from slipway.errors import CheckpointError, ResourceError
from slipway.weights import shard_writer
from slipway.weights.checkpoint_files import INDEX, SINGLE
from slipway.weights.journal import Journal
from slipway.weights.shard_writer import ShardWriter, bytes_of
from slipway.weights.shards import Shards, TensorInfo


def tensors_of_all_kinds():
    return {
        "a.weight": torch.arange(12, dtype=torch.uint8).reshape(3, 4),
        "a.weight_scale": torch.ones(3, 1).to(torch.float8_e4m3fn),
        "a.weight_scale_2": torch.tensor(0.5),
        "b.weight": torch.randn(5, 7).to(torch.bfloat16),
        "c.empty": torch.ones(0, 3),
    }


def plan_of(tensors):
    return {name: TensorInfo(t.dtype, tuple(t.shape)) for name, t in tensors.items()}


@pytest.mark.parametrize("max_bytes", [1e9, 40, 1])
def test_the_library_reads_it_back_whatever_the_order_of_writing(tmp_path, max_bytes):
    tensors = tensors_of_all_kinds()
    with ShardWriter(tmp_path, plan_of(tensors), max_bytes) as writer:
        for name in reversed(tensors):
            writer.write(name, tensors[name])
    actual = {name: tensor for file in tmp_path.glob("*.safetensors") for name, tensor in load_file(file).items()}
    assert actual.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (
            actual[name].dtype == tensor.dtype
            and actual[name].shape == tensor.shape
            and actual[name].tolist() == tensor.tolist()
        )
    assert Shards.open(tmp_path).names() == sorted(tensors)


def test_tensors_are_aligned_to_their_dtype(tmp_path):
    tensors = tensors_of_all_kinds()
    with ShardWriter(tmp_path, plan_of(tensors), 1e9) as writer:
        for name, tensor in tensors.items():
            writer.write(name, tensor)
    raw = (tmp_path / SINGLE).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    assert length % 8 == 0
    for name, tensor in tensors.items():
        assert header[name]["data_offsets"][0] % tensor.dtype.itemsize == 0


def test_the_index_counts_and_maps(tmp_path):
    tensors = tensors_of_all_kinds()
    with ShardWriter(tmp_path, plan_of(tensors), 20) as writer:
        for name, tensor in tensors.items():
            writer.write(name, tensor)
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in tensors.values())
    for name, file in index["weight_map"].items():
        assert name in load_file(tmp_path / file)


def test_a_failure_leaves_no_file(tmp_path):
    tensors = tensors_of_all_kinds()
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path, plan_of(tensors), 20) as writer:
        writer.write("a.weight", tensors["a.weight"])
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_missing_tensor_is_named_and_nothing_is_published(tmp_path):
    tensors = tensors_of_all_kinds()
    with (
        pytest.raises(CheckpointError, match=r"4 tensors missing, first a.weight_scale"),
        ShardWriter(tmp_path, plan_of(tensors), 1e9) as writer,
    ):
        writer.write("a.weight", tensors["a.weight"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name, tensor",
    [("nope", torch.ones(1)), ("a.weight_scale_2", torch.ones(2)), ("a.weight_scale_2", torch.tensor(1))],
)
def test_what_is_not_in_the_plan_is_refused(tmp_path, name, tensor):
    with (
        pytest.raises(CheckpointError, match=f"tensor {name} to write"),
        ShardWriter(tmp_path, plan_of(tensors_of_all_kinds()), 1e9) as writer,
    ):
        writer.write(name, tensor)


def test_a_disk_without_room_is_known_at_once(tmp_path):
    with pytest.raises(ResourceError, match=r"GB free; expected 2000000.00 GB"):
        ShardWriter(tmp_path, {"huge": TensorInfo(torch.bfloat16, (10**15,))}, 1e18)
    assert list(tmp_path.iterdir()) == []


JOB = {"what": "test"}


def resumable(folder, tensors, max_bytes=40):
    """(journal, writer) over `folder`, to be closed by the caller."""
    journal = Journal(folder / "resume.jsonl", JOB)
    return journal, ShardWriter(folder, plan_of(tensors), max_bytes, journal)


def stopped_after(folder, tensors, names, max_bytes=40):
    """What a run leaves that wrote `names` and died."""
    journal, writer = resumable(folder, tensors, max_bytes)
    with journal, pytest.raises(KeyboardInterrupt), writer:
        for name in names:
            writer.write(name, tensors[name])
        raise KeyboardInterrupt


def finish(folder, tensors, max_bytes=40):
    """Go on and write what is missing; returns those names."""
    journal, writer = resumable(folder, tensors, max_bytes)
    with journal, writer:
        missing = [name for name in tensors if not writer.has([name])]
        for name in missing:
            writer.write(name, tensors[name])
    return missing


def content(folder):
    return {file.name: file.read_bytes() for file in folder.glob("model*")}


@pytest.fixture
def whole(tmp_path):
    """(tensors, the files of an undisturbed run)."""
    tensors = tensors_of_all_kinds()
    (tmp_path / "whole").mkdir()
    finish(tmp_path / "whole", tensors)
    return tensors, content(tmp_path / "whole")


@pytest.mark.parametrize("done", range(6))
def test_a_second_run_keeps_what_is_there_and_writes_the_rest(tmp_path, whole, done):
    tensors, files = whole
    stopped_after(tmp_path, tensors, list(tensors)[:done])
    assert not (tmp_path / INDEX).exists()
    assert finish(tmp_path, tensors) == list(tensors)[done:]
    assert content(tmp_path) == files and len(files) > 2


def test_changed_bytes_of_a_finished_tensor_are_noticed_and_written_again(tmp_path, whole):
    tensors, files = whole
    stopped_after(tmp_path, tensors, list(tensors)[:-1])
    shard = next(file for file in tmp_path.glob("*.safetensors*") if b"b.weight" in file.read_bytes())
    data = shard.read_bytes()
    shard.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert finish(tmp_path, tensors) == ["b.weight", "c.empty"]
    assert content(tmp_path) == files


def test_a_damaged_header_and_a_shard_cut_short_are_mended(tmp_path, whole):
    tensors, files = whole
    stopped_after(tmp_path, tensors, list(tensors)[:-1])
    shard = next(file for file in tmp_path.glob("*.safetensors*") if b"b.weight" in file.read_bytes())
    shard.write_bytes(b"\0" * 20 + shard.read_bytes()[20:-3])
    assert finish(tmp_path, tensors) == ["b.weight", "c.empty"]
    assert content(tmp_path) == files


def test_a_tensor_of_a_finished_shard_can_be_dropped_and_written_again(tmp_path, whole):
    """A set that is made together may lie in two shards, one of them finished."""
    tensors, files = whole
    stopped_after(tmp_path, tensors, list(tensors)[:-2])
    journal, writer = resumable(tmp_path, tensors)
    with journal, writer:
        assert writer.has(["a.weight"])
        writer.drop(["a.weight", "b.weight"])
        assert not writer.has(["a.weight"])
        for name in ("a.weight", "b.weight", "c.empty"):
            writer.write(name, tensors[name])
    assert content(tmp_path) == files


def test_a_finished_job_that_is_run_again_writes_nothing_and_has_no_index_until_its_bytes_are_checked(tmp_path, whole):
    tensors, files = whole
    finish(tmp_path, tensors)
    journal, writer = resumable(tmp_path, tensors)
    with journal, writer:
        assert not (tmp_path / INDEX).exists() and writer.has(tensors)
    assert content(tmp_path) == files


def test_appended_pieces_and_threads_make_the_same_bytes(tmp_path, whole):
    tensors, files = whole
    journal, writer = resumable(tmp_path, tensors)

    def in_pieces(name):
        data = bytes_of(tensors[name])
        for at in range(0, len(data), 3):
            writer.append(name, data[at : at + 3])
        if not data:
            writer.append(name, data)

    with journal, writer, ThreadPoolExecutor(4) as pool:
        list(pool.map(in_pieces, tensors))
    assert content(tmp_path) == files


def test_the_disk_begins_with_a_large_part_when_it_is_finished(tmp_path, monkeypatch):
    started, begin = [], shard_writer.start_write_back

    def spy(fd, offset, nbytes):
        started.append((offset, nbytes))
        begin(fd, offset, nbytes)

    monkeypatch.setattr(shard_writer, "start_write_back", spy)
    large, small = torch.arange(1 << 18, dtype=torch.int32), torch.ones(3)
    with ShardWriter(tmp_path, plan_of({"large": large, "small": small}), 1e9) as writer:
        writer.append("large", bytes_of(large)[:7])
        assert started == []
        writer.append("large", bytes_of(large)[7:])
        writer.write("small", small)
    [(offset, nbytes)] = started
    assert (tmp_path / SINGLE).read_bytes()[offset : offset + nbytes] == bytes(bytes_of(large))
    assert nbytes == large.nbytes


def test_a_finished_tensor_can_be_read_before_and_after_its_shard_is_published(tmp_path, whole):
    tensors, _ = whole
    journal, writer = resumable(tmp_path, tensors)
    with journal, writer:
        for name, tensor in tensors.items():
            writer.write(name, tensor)
            assert torch.equal(writer.read(name).float(), tensor.float())
    assert torch.equal(writer.read("b.weight"), tensors["b.weight"])


def test_more_bytes_than_planned_and_a_tensor_twice_are_refused(tmp_path):
    tensors = tensors_of_all_kinds()
    with (
        pytest.raises(CheckpointError, match=r"a\.weight to write: 0 \+ 13 bytes; expected 12, once"),
        ShardWriter(tmp_path, plan_of(tensors), 1e9) as writer,
    ):
        writer.append("a.weight", memoryview(bytes(13)))
    with (
        pytest.raises(CheckpointError, match=r"a\.weight to write"),
        ShardWriter(tmp_path, plan_of(tensors), 1e9) as writer,
    ):
        writer.write("a.weight", tensors["a.weight"])
        writer.write("a.weight", tensors["a.weight"])
