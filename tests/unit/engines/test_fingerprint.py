from __future__ import annotations

from slipway.config.engine import EngineConfig
from slipway.engines.fingerprint import engine_fingerprint


def test_the_fingerprint_is_the_hardware_and_the_package() -> None:
    print_ = engine_fingerprint(EngineConfig())
    assert print_ == engine_fingerprint(EngineConfig(slots=7))
    assert print_ != engine_fingerprint(EngineConfig(version="0.0.1"))
    assert set(print_) == {"arch", "cpu", "engine"}
    assert len(print_["cpu"]) == 12
