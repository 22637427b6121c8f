"""The table of what the rooms took, made of phases as two test processes report them."""

from dataclasses import dataclass

from tests.support.room_times import Times, grouped, lines


@dataclass
class Phase:
    nodeid: str
    start: float
    stop: float


PHASES = [
    Phase("tests/unit/a/test_x.py::test_one", 10.0, 11.0),
    Phase("tests/unit/a/test_x.py::test_one", 11.0, 14.0),
    Phase("tests/unit/test_y.py::test_two[a::b/c]", 10.0, 10.5),
    Phase("tests/lab/test_z.py::test_three", 14.0, 64.0),
]


def test_a_room_s_time_is_the_sum_of_its_phases_and_its_span_that_of_a_clock():
    assert grouped(PHASES, parts=2) == {
        "tests/lab": Times(tests=1, busy=50.0, span=50.0),
        "tests/unit": Times(tests=2, busy=4.5, span=4.0),
    }


def test_the_longest_file_stands_first():
    table = lines(PHASES)
    assert table[0].split() == ["room", "tests", "busy", "s", "span", "s"]
    assert [line.split()[-1] for line in table[-3:]] == [
        "tests/lab/test_z.py",
        "tests/unit/a/test_x.py",
        "tests/unit/test_y.py",
    ]
