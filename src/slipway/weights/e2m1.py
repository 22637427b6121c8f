"""The eight magnitudes of E2M1, a 4-bit float: sign << 3 | index. Short because it is one table for all who read it."""

from __future__ import annotations

E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
E2M1_MAX = E2M1[-1]
