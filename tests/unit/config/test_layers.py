"""Files of conf/: whatever stands there in place of YAML is one error that names the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.config.layers import choices, companions, preset, read_layers, read_mapping
from slipway.config.load import load_config
from slipway.errors import ConfigError

BASE = "layers: {train: train/mine}\n"


def conf(tmp_path: Path, layer: bytes | str, base: str = BASE) -> Path:
    """A conf folder whose one layer has this content."""
    (tmp_path / "train").mkdir()
    (tmp_path / "base.yaml").write_text(base)
    (tmp_path / "train/mine.yaml").write_bytes(layer.encode() if isinstance(layer, str) else layer)
    return tmp_path


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\xff", r"byte 0 is not UTF-8"),
        (b"rank: 4\x00\n", r"NUL character"),
        ("rank: [4", r"expected .*\(line \d\)"),
        ("rank: 4\nrank: 8\n", r"found duplicate key rank \(line 2\)"),
        ("just some words", r"`just some words`; expected a YAML mapping"),
        ("42", r"Invalid loaded object type: int"),
        ("- rank\n- 4\n", r"expected a YAML mapping"),
        ("rank: !!python/object:os.system x", r"could not determine a constructor.*line 1"),
        ("rank: &a [*a]", r"nested too deep, or within itself"),
        ("targets: " + "[" * 3000 + "]" * 3000, r"nested too deep"),
        ("rank: ${unclosed", r"config file .*mine\.yaml: no viable alternative"),
        ("rank: ${oc.env:NO_SUCH_VARIABLE}", r"config key train\.rank: .*NO_SUCH_VARIABLE' not found"),
        ("rank: ${train.alpha}\nalpha: ${train.rank}\n", r"config key train\.(rank|alpha): Recursive interpolation"),
        ("rank: ${no.such.key}", r"config key train\.rank: Interpolation key 'no\.such\.key' not found"),
        ("rank: ???", r"config key train\.rank: Missing mandatory value"),
        ("null: 4", r"Incompatible key type"),
        ("rank: {a: 4}", r"config key train\.rank: \{'a': 4\}.*valid integer"),
        ("rank: '" + "x" * 10_000 + "'", r"config key train\.rank: 'xxx.*\.\.\."),
    ],
    ids=lambda v: repr(v)[:30],
)
def test_a_layer_of_anything_else_is_one_bounded_error(tmp_path, layer, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(conf(tmp_path, layer))
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize(
    "layer",
    [b"\xef\xbb\xbfrank: 4\n", b"rank: 4\r\nalpha: 8\r\n", b"# nothing but a comment\nrank: 4", b"---\nrank: 4\n"],
)
def test_byte_order_marks_and_line_ends_of_other_systems_are_read(tmp_path, layer):
    assert load_config(conf(tmp_path, layer)).train.rank == 4


def test_an_empty_layer_changes_nothing(tmp_path):
    assert load_config(conf(tmp_path, "")) == load_config(
        conf(tmp_path / "b", "") if (tmp_path / "b").mkdir() else tmp_path
    )


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("layers: [train]", r"layers in .*base\.yaml: \['train'\]"),
        ("layers: train/mine", r"layers in .*base\.yaml"),
        ("layers: {trian: train/mine}", r"layers\.trian: unknown.*did you mean train\?"),
        ("layers: {train: 5}", r"layers\.train: 5"),
        ("layers: {train: null}", r"layers\.train: None"),
        ("layers: {train: ''}", r"layers\.train: ''"),
        ("layers: {train: train}", r"config layer: .*train\.yaml"),
        ("layers: {train: train/mien}", r"did you mean .*train/mine\.yaml\?"),
        ("train: 5", r"config key train: 5"),
        ("tracking: {uri: 'http://h:99999'}", r"config key tracking\.uri: .*port number from 1 to 65535"),
    ],
)
def test_a_base_that_chooses_nothing_sound_is_refused(tmp_path, base, message):
    with pytest.raises(ConfigError, match=message):
        load_config(conf(tmp_path, "rank: 4", base))


def test_a_missing_folder_a_folder_in_place_of_a_file_and_a_file_in_place_of_conf(tmp_path):
    with pytest.raises(ConfigError, match=r"config layer: .*absent/base\.yaml; expected an existing YAML file"):
        load_config(tmp_path / "absent")
    (tmp_path / "base.yaml").mkdir()
    with pytest.raises(ConfigError, match=r"config layer: .*base\.yaml; expected a YAML file.*no regular file"):
        load_config(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"config layer: .*file/base\.yaml"):
        load_config(tmp_path / "file")


def test_a_file_without_permission_is_named(tmp_path, monkeypatch):
    """As a user who may not read it; the tests may run as one who may read all."""
    path = conf(tmp_path, "rank: 4") / "train/mine.yaml"

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(ConfigError, match=r"config file .*mine\.yaml: Permission denied"):
        read_mapping(path)


def test_descriptions_are_no_keys_and_layers_fill_their_sections(tmp_path):
    folder = conf(tmp_path, "description: mine\nrank: 4\n")
    assert read_mapping(folder / "train/mine.yaml") == {"rank": 4}
    assert read_layers(folder, {"train": "train/mine"}) == [{"train": {"rank": 4}}]
    assert choices(None, "here", ["train"]) == {}


def test_a_preset_chooses_layers_and_words_win_over_it(tmp_path):
    folder = conf(tmp_path, "rank: 4\nalpha: 8\n", "layers: {train: train/other}")
    (folder / "train/other.yaml").write_text("rank: 2\n")
    (folder / "presets").mkdir()
    (folder / "presets/quick.yaml").write_text("description: quick\nlayers: {train: train/mine}\n")
    assert preset(folder, "quick", ["train"]) == {"train": "train/mine"}
    assert load_config(folder).train.rank == 2
    assert load_config(folder, ["layers=quick"]).train.rank == 4
    mixed = load_config(folder, ["train.rank=6", "layers=quick"])
    assert (mixed.train.rank, mixed.train.alpha) == (6, 8)
    assert load_config(folder, ["layers=quick", "layers.train=train/other"]).train.rank == 2
    assert load_config(folder, given={"layers": "quick", "train": {"alpha": 3}}).train.alpha == 3


def test_a_layer_chooses_others_and_whoever_chooses_by_name_wins(tmp_path):
    folder = conf(tmp_path, "rank: 4\n", "layers: {train: train/mine, gate: gates/base}")
    for name, text in {
        "data/own": "with: {gate: gates/own}\nname: own\nraw: own.jsonl",
        "gates/own": "confidence: 0.9",
        "gates/base": "confidence: 0.8",
        "gates/other": "confidence: 0.7",
        "presets/quick": "layers: {data: data/own, gate: gates/base}",
    }.items():
        (folder / f"{name}.yaml").parent.mkdir(exist_ok=True)
        (folder / f"{name}.yaml").write_text(text + "\n")
    assert companions(folder, {"data": "data/own"}, ["data", "gate"]) == {"gate": "gates/own"}
    assert load_config(folder).gate.confidence == 0.8
    assert load_config(folder, ["layers.data=data/own"]).gate.confidence == 0.9
    assert load_config(folder, ["layers.data=data/own", "layers.gate=gates/base"]).gate.confidence == 0.8
    assert load_config(folder, ["layers=quick"]).gate.confidence == 0.8
    assert load_config(folder, given={"layers": {"data": "data/own"}}).gate.confidence == 0.9
    (folder / "presets/other.yaml").write_text("with: {gate: gates/other}\n")
    two = {"data": "data/own", "train": "presets/other"}
    with pytest.raises(ConfigError, match=r"say which: layers\.gate=gates/other"):
        companions(folder, two, ["data", "gate"])
    assert set(companions(folder, two, ["data", "gate"], ["gate"])) == {"gate"}
    (folder / "gates/own.yaml").write_text("with: {train: train/mine}\n")
    with pytest.raises(ConfigError, match=r"`with` in data/own: gates/own; expected a layer that chooses no others"):
        load_config(folder, ["layers.data=data/own"])
    (folder / "train/mine.yaml").write_text("with: {gate: gates/base}\n")
    (folder / "gates/own.yaml").write_text("confidence: 0.9\n")
    with pytest.raises(ConfigError, match=r"gate: gates/own; expected gates/base as another layer chooses"):
        load_config(folder, ["layers.data=data/own"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {rank: 4}", r"preset .*quick\.yaml: key 'train'; expected `description` and `layers` only"),
        ("layers: {trian: x}", r"layers\.trian: unknown, in .*quick\.yaml"),
        ("[]", r"config file .*quick\.yaml"),
    ],
)
def test_a_preset_of_anything_else_is_refused(tmp_path, text, message):
    folder = conf(tmp_path, "rank: 4")
    (folder / "presets").mkdir()
    (folder / "presets/quick.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(folder, ["layers=quick"])
    with pytest.raises(ConfigError, match=r"config layer: .*quack\.yaml.*did you mean .*quick\.yaml\?"):
        load_config(folder, ["layers=quack"])


@pytest.mark.parametrize("name", ["deploy/../gates/any", "../conf/gates/any", "/etc/hosts", "deploy/..", " "])
def test_a_layer_is_a_file_below_conf(name: str) -> None:
    with pytest.raises(ConfigError, match=r"layers\.deploy.*a file below conf/"):
        load_config(Path("conf"), [f"layers.deploy={name}"])


def test_a_preset_is_a_file_of_its_folder() -> None:
    with pytest.raises(ConfigError, match=r"layers: '\.\./gates/any'.*a file of conf/presets"):
        load_config(Path("conf"), ["layers=../gates/any"])
