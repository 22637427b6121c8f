"""Pins: what is read from a registry, what is refused, and how conf/images.yaml is written."""

import hashlib
import json

import pytest
import yaml

from slipway.config.image import ImageConfig
from slipway.containers import images
from slipway.containers.registry import INDEXES, MANIFESTS, Document
from slipway.errors import ConfigError


class Shelf:
    """A registry's documents by reference, in place of `Registry`."""

    def __init__(self):
        self.documents, self.configs = {}, {}

    def __call__(self, repository):
        return self

    def image(self, arch):
        config = f"sha256:{hashlib.sha256(arch.encode()).hexdigest()}"
        self.configs[config] = {"architecture": arch, "config": {"Env": ["CUDA_VERSION=13.0.1"]}}
        body = {"mediaType": MANIFESTS[0], "config": {"digest": config}}
        return self._keep(MANIFESTS[0], body)

    def index(self, tag, entries):
        listed = [{"digest": d, "platform": {"architecture": a, "os": o}} for a, o, d in entries]
        self.documents[tag] = self.documents[self._keep(INDEXES[0], {"manifests": listed})]

    def _keep(self, media_type, body):
        digest = f"sha256:{hashlib.sha256(json.dumps(body).encode()).hexdigest()}"
        self.documents[digest] = Document(media_type, digest, body)
        return digest

    def manifest(self, reference):
        return self.documents[reference]

    def blob(self, digest):
        return self.configs[digest]


@pytest.fixture
def shelf(monkeypatch):
    made = Shelf()
    monkeypatch.setattr(images, "Registry", made)
    return made


IMAGE = ImageConfig(repository="nvcr.io/nvidia/x", tag="1")


def test_an_index_gives_a_digest_per_architecture_and_its_attestations_none(shelf):
    amd, arm, s390 = shelf.image("amd64"), shelf.image("arm64"), shelf.image("s390x")
    shelf.index(
        "1", [("amd64", "linux", amd), ("unknown", "unknown", s390), ("s390x", "linux", s390), ("arm64", "linux", arm)]
    )
    assert images.read_digests(IMAGE) == {"amd64": amd, "arm64": arm}


def test_an_index_that_lies_is_refused(shelf):
    shelf.index("1", [("amd64", "linux", shelf.image("arm64"))])
    with pytest.raises(ConfigError, match=r"arm64 in the registry; expected amd64"):
        images.read_digests(IMAGE)


def test_a_tag_for_other_machines_only_is_refused(shelf):
    shelf.index("1", [("s390x", "linux", shelf.image("s390x"))])
    with pytest.raises(ConfigError, match="for s390x; expected amd64 or arm64"):
        images.read_digests(IMAGE)


def test_a_pin_is_checked_before_the_pull(shelf):
    arm = shelf.image("arm64")
    shelf.index("1", [("arm64", "linux", arm)])
    assert images.check_before_pull(IMAGE.model_copy(update={"digests": {"arm64": arm}}), "arm64") == "13.0.1"
    with pytest.raises(ConfigError, match=r"arm64 in the registry; expected amd64"):
        images.check_before_pull(IMAGE.model_copy(update={"digests": {"amd64": arm}}), "amd64")
    with pytest.raises(ConfigError, match="an index of several"):
        images.check_before_pull(IMAGE.model_copy(update={"digests": {"arm64": shelf.documents["1"].digest}}), "arm64")


def test_an_image_that_is_not_pinned_says_how():
    with pytest.raises(ConfigError, match=r"pinned for none; expected a digest for arm64.*slipway pin"):
        images.pinned(IMAGE, "arm64")
    with pytest.raises(ConfigError, match="64 hex digits"):
        images.pinned(IMAGE.model_copy(update={"digests": {"arm64": "sha256:12"}}), "arm64")


def test_after_the_pull_the_engines_word_for_an_architecture_counts():
    images.refuse_other_on_machine("x@sha256:1", "aarch64", "arm64", "spark")
    with pytest.raises(ConfigError, match=r"amd64 on spark; expected arm64"):
        images.refuse_other_on_machine("x@sha256:1", "x86_64", "arm64", "spark")


CONF = """\
# who pins these: ops
description: Container images
first:            # trains
  repository: nvcr.io/nvidia/x
  tag: "0"        # moved monthly
  digests: {}
second:
  repository: nvcr.io/nvidia/y
  digests:
    arm64: sha256:old
  tag: 1

# the end
"""


@pytest.fixture
def conf(shelf, tmp_path):
    shelf.amd, shelf.arm = shelf.image("amd64"), shelf.image("arm64")
    shelf.index("1", [("amd64", "linux", shelf.amd), ("arm64", "linux", shelf.arm)])
    shelf.index("0", [("arm64", "linux", shelf.arm)])
    (tmp_path / "images.yaml").write_text(CONF.replace("tag: 1", 'tag: "1"'))
    return tmp_path


def test_pins_are_written_and_all_other_text_is_kept(conf, shelf):
    assert images.pin(conf, []) == {"first": {"arm64": shelf.arm}, "second": {"amd64": shelf.amd, "arm64": shelf.arm}}
    text = (conf / "images.yaml").read_text()
    doc = yaml.safe_load(text)
    assert doc["first"]["digests"] == {"arm64": shelf.arm} and doc["second"]["digests"] == {
        "amd64": shelf.amd,
        "arm64": shelf.arm,
    }
    assert doc["second"]["tag"] == "1" and "sha256:old" not in text
    kept = [line for line in text.splitlines() if "digests" not in line and "sha256" not in line]
    assert kept == [
        line
        for line in CONF.replace("tag: 1", 'tag: "1"').splitlines()
        if "digests" not in line and "sha256" not in line
    ]
    images.pin(conf, [])
    assert (conf / "images.yaml").read_text() == text


def test_one_row_is_moved_to_a_tag(conf, shelf):
    images.pin(conf, ["first"], "1")
    doc = yaml.safe_load((conf / "images.yaml").read_text())
    assert doc["first"]["tag"] == "1" and set(doc["first"]["digests"]) == {"amd64", "arm64"}
    assert (
        doc["second"]["digests"] == {"arm64": "sha256:old"} and "# moved monthly" in (conf / "images.yaml").read_text()
    )


def test_a_row_that_cannot_be_edited_or_is_not_there_leaves_the_file(conf):
    before = (conf / "images.yaml").read_text()
    with pytest.raises(ConfigError, match="one of first, second"):
        images.pin(conf, ["third"])
    (conf / "images.yaml").write_text('x: {repository: a/b, tag: "1", digests: {}}\n')
    with pytest.raises(ConfigError, match="write its digests by hand"):
        images.pin(conf, ["x"])
    assert (conf / "images.yaml").read_text() == 'x: {repository: a/b, tag: "1", digests: {}}\n' and "first" in before
