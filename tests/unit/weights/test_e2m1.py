"""The table of E2M1 is the specification's: 2 bits of exponent with bias 1, 1 of mantissa."""

from slipway.weights.e2m1 import E2M1, E2M1_MAX


def test_the_table_is_what_the_bits_say():
    def value(code):
        exponent, mantissa = code >> 1, code & 1
        return mantissa / 2 if exponent == 0 else 2 ** (exponent - 1) * (1 + mantissa / 2)

    assert list(E2M1) == [value(code) for code in range(8)] and E2M1_MAX == 6
