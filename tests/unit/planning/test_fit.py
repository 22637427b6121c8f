"""One answer to `does it fit`, and that everybody asks it."""

from __future__ import annotations

import re
from pathlib import Path

from slipway.config.load import load_config
from slipway.config.target import TargetConfig
from slipway.planning.fit import cannot_tell, fit, gpu_room, room_beside, room_in_words, room_there

SOURCE = Path(__file__).resolve().parents[3] / "src/slipway"


def test_fits_does_not_fit_cannot_tell() -> None:
    assert fit(2e9, 2e9, way_out="x").fits and fit(2e9, 2e9, way_out="x").way_out == ""
    short = fit(2.1e9, 2e9, way_out="x")
    assert (short.fits, str(short), short.way_out) == (False, "2.1 of 2.0 GB: does not fit", "x")
    unknown = cannot_tell("model_type 'mamba'", "probe it")
    assert not unknown.fits and str(unknown) == "cannot tell: model_type 'mamba'"


def test_the_room_of_a_gpu_is_the_reserves_until_it_was_probed() -> None:
    spark = load_config(overrides=["layers.target=targets/spark"]).target
    assert (gpu_room(spark), room_in_words(spark)) == (108e9, "128 GB less 20 GB reserve")
    probed = spark.model_copy(update={"usable_gb": 113.5})
    assert (gpu_room(probed), room_in_words(probed)) == (113.5e9, "113.5 GB usable, as `slipway probe` measured")
    assert gpu_room(load_config().target) is None


def test_the_room_on_a_machine_is_the_rows_less_where_it_has_less() -> None:
    spark = load_config(overrides=["layers.target=targets/spark"]).target
    assert [room_there(spark, total) for total in (140e9, 121e9)] == [108e9, 101e9]
    probed = spark.model_copy(update={"usable_gb": 113.5})
    assert [room_there(probed, total) for total in (140e9, 121e9, 100e9)] == [113.5e9, 113.5e9, 100e9]
    assert (room_there(TargetConfig(), 8e9), room_in_words(TargetConfig())) == (8e9, "what is there")
    assert (room_beside(spark, 100e9, 4), room_beside(TargetConfig(), 8e9, 4)) == (92e9, 4e9)


def test_what_was_probed_is_in_no_key_of_a_stage() -> None:
    spark = load_config(overrides=["layers.target=targets/spark"]).target
    assert spark.key_document() == spark.model_copy(update={"usable_gb": 113.5}).key_document()


def test_nobody_works_it_out_a_second_time() -> None:
    """A limit that is computed or compared elsewhere would one day differ from this one."""
    own = {SOURCE / "planning/fit.py", SOURCE / "agent/room.py"}
    bytes_that_fit = r"gpu_room|budget|room|available|free|total|usable"
    pattern = rf"gpu_memory_gb\s*-|reserve_gb\)? *[-+*]|[<>]=? *(gpu_room|budget)\(|memory [<>]=? *({bytes_that_fit})\b"
    files = [file for file in SOURCE.rglob("*.py") if file not in own]
    lines = [
        f"{file.relative_to(SOURCE)}:{number}: {line.strip()}"
        for file in files
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert lines == []
