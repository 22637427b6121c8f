"""The kernel's log as a file and as a device: only what is new, and why when it cannot be read."""

from pathlib import Path

from slipway.system.kernel_log import KernelLog


def test_only_lines_that_come_after_it_was_opened(tmp_path):
    file = tmp_path / "kern.log"
    file.write_text("NVRM: old NV_ERR_NO_MEMORY\n")
    log = KernelLog(file)
    assert log.problem is None and list(log.lines()) == []
    with file.open("a") as more:
        more.write("NVRM: new\nhalf")
    assert list(log.lines()) == ["NVRM: new"]
    with file.open("a") as more:
        more.write(" a line\n")
    assert list(log.lines()) == ["half a line"]
    log.close()


def test_a_log_that_is_not_there_says_so_and_has_no_lines(tmp_path):
    log = KernelLog(tmp_path / "absent")
    assert log.problem is not None and "No such file" in log.problem
    assert list(log.lines()) == []
    log.close()


def test_a_device_that_has_nothing_to_say(tmp_path):
    log = KernelLog(Path("/dev/null"))
    assert log.problem is None and list(log.lines()) == []
    log.close()
    assert list(log.lines()) == []


def test_the_kernels_own_log_is_read_or_named_as_not_readable():
    log = KernelLog()
    assert list(log.lines()) == [] or log.problem is None
    assert log.problem is None or "/dev/kmsg" in log.problem
    log.close()
