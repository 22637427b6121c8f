"""The table of layouts holds: every format in every layout, or a refusal."""

import pytest

from slipway.errors import ConfigError
from slipway.quantization.formats import FORMATS
from slipway.quantization.layouts import LAYOUTS, Scheme


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fmt", FORMATS)
def test_every_format_has_a_layout(layout, fmt):
    scheme = Scheme({"l.0.o_proj": FORMATS[fmt]}, ["lm_head"], kv_cache=False, version="1")
    if (layout, fmt) == ("modelopt", "mxfp4"):
        with pytest.raises(ConfigError):
            LAYOUTS[layout].require(scheme)
    else:
        LAYOUTS[layout].require(scheme)
        assert LAYOUTS[layout].documents(scheme)[0]["quant_method"] == layout
