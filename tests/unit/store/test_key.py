"""The key's document, and fields that are added later."""

from typing import Annotated, Any

from pydantic import Field

from slipway.config.base import Section, born
from slipway.store.artifacts import Checkpoint
from slipway.store.key import KEY_FORMAT, key_document, key_of


class Inner(Section):
    """A nested section as it was first."""

    samples: int = 8


class Params(Section):
    """Params as they were first."""

    lr: float = 0.1
    names: list[str] = Field(default_factory=lambda: ["a"])
    inner: Inner = Field(default_factory=Inner)
    rows: list[Inner] = Field(default_factory=lambda: [Inner()])
    by_name: dict[str, Inner] = Field(default_factory=lambda: {"x": Inner()})
    size: tuple[int, int] = (1, 2)


class LaterInner(Inner):
    """The nested section with a field more, whose default is not what was before."""

    seed: Annotated[int, born(17)] = 17


class Later(Params):
    """The params after two releases: new fields, one a section of its own, one in the nested sections."""

    inner: LaterInner = Field(default_factory=LaterInner)
    rows: list[LaterInner] = Field(default_factory=lambda: [LaterInner()])
    by_name: dict[str, LaterInner] = Field(default_factory=lambda: {"x": LaterInner()})
    scale: Annotated[float, born(1.0)] = 1.0
    extra: Annotated[LaterInner | None, born(None)] = None


def key(params: Section) -> str:
    return key_of(key_document("quantize", {}, params, {}, "code"))


def test_the_document_says_its_format_and_names_inputs_by_digest() -> None:
    inputs = {"checkpoint": Checkpoint(uri="/a", digest="d"), "data": None}
    document = key_document("quantize", inputs, Inner(), {"cpu": "x"}, "c0de")
    assert document == {
        "format": KEY_FORMAT,
        "stage": "quantize",
        "inputs": {"checkpoint": "d", "data": None},
        "params": {"samples": 8},
        "code": "c0de",
        "extra": {"cpu": "x"},
    }
    assert KEY_FORMAT == 2
    assert key_of(document) != key_of({**document, "format": 3})


def test_a_field_added_with_its_birth_value_leaves_every_key_as_it_was() -> None:
    assert Later().key_document() == Params().key_document()
    assert key(Later()) == key(Params())


def test_a_field_added_counts_as_soon_as_it_differs_from_its_birth_value() -> None:
    changed = [
        Later(scale=2.0),
        Later(inner=LaterInner(seed=18)),
        Later(rows=[LaterInner(seed=18)]),
        Later(by_name={"x": LaterInner(seed=18)}),
        Later(extra=LaterInner()),
    ]
    assert len({key(Params()), *map(key, changed)}) == 6


def test_a_default_that_changes_is_another_key_whether_the_field_was_born_or_always_there() -> None:
    class Again(Later):
        """A release later: other defaults, the birth value as it was."""

        scale: Annotated[float, born(1.0)] = 0.5

    class Other(Params):
        """A field of the beginning with another default."""

        lr: float = 0.2

    assert key(Again()) != key(Later())
    assert key(Again(scale=1.0)) == key(Params())
    assert key(Other()) != key(Params())
    assert key(Other(lr=0.1)) == key(Params())


def test_a_section_added_whole_is_left_out_while_all_its_fields_are_as_before() -> None:
    class Fresh(Section):
        """A section that came with its fields."""

        on: Annotated[bool, born(False)] = False

    class WithFresh(Params):
        """The params with it."""

        fresh: Annotated[Fresh, born({})] = Field(default_factory=Fresh)

    assert key(WithFresh()) == key(Params())
    assert key(WithFresh(fresh=Fresh(on=True))) != key(Params())


def test_every_field_of_today_is_in_the_key() -> None:
    assert set(Params().key_document()) == set(Params.model_fields)
    assert Params().key_document()["size"] == [1, 2]


def test_the_config_itself_keeps_a_field_that_the_key_leaves_out() -> None:
    dumped: dict[str, Any] = Later().model_dump()
    assert dumped["scale"] == 1.0
    assert "scale" not in Later().key_document()
