"""What a model may be made of."""

import pytest

from slipway.errors import ConfigError
from slipway.quantization.formats import FORMATS
from slipway.quantization.scheme import Scheme, require_one_format_a_unit


def scheme(formats, unquantized=()):
    return Scheme({module: FORMATS[name] for module, name in formats.items()}, unquantized, kv_cache=False, version="1")


def test_modules_by_format_in_order():
    by_format = scheme({"b": "fp8", "a": "nvfp4", "c": "fp8"}).by_format()
    assert {name: modules for name, (_, modules) in by_format.items()} == {"fp8": ["b", "c"], "nvfp4": ["a"]}


@pytest.mark.parametrize(
    "formats, unquantized, match",
    [
        ({"l.0.a.q_proj": "nvfp4", "l.0.a.k_proj": "fp8"}, (), r"l\.0\.a\.q_proj, l\.0\.a\.k_proj: fp8, nvfp4"),
        ({"l.0.m.gate_proj": "nvfp4"}, ["l.0.m.up_proj"], r"l\.0\.m\.gate_proj, l\.0\.m\.up_proj: bf16, nvfp4"),
        ({"l.0.experts.0.down_proj": "nvfp4", "l.0.experts.1.down_proj": "fp8"}, (), "runtimes run them as one matmul"),
    ],
)
def test_what_a_runtime_fuses_has_one_format(formats, unquantized, match):
    with pytest.raises(ConfigError, match=match):
        require_one_format_a_unit(scheme(formats, unquantized))


def test_layers_may_differ():
    require_one_format_a_unit(
        scheme({"l.0.a.q_proj": "nvfp4", "l.1.a.q_proj": "fp8", "l.0.a.o_proj": "fp8"}, ["l.2.a.q_proj", "lm_head"])
    )
