"""What people see of running steps."""

import io

import pytest

from lab.progress import Progress, seconds


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("duration", "text"), [(0.04, "0.0s"), (3.21, "3.2s"), (59.9, "59.9s"), (60, "1m00s"), (247.4, "4m07s")]
)
def test_durations_read_well(duration: float, text: str) -> None:
    assert seconds(duration) == text


def test_without_a_terminal_each_step_gets_two_plain_lines() -> None:
    clock, stream = Clock(), io.StringIO()
    progress = Progress(stream, clock=clock)
    with progress.step("build Helm"):
        clock.now += 12.34
        progress.say("Installing x")
    assert stream.getvalue() == (
        "[   0.0s] build Helm ...\n[  12.3s] Installing x\n[  12.3s] build Helm done in 12.3s\n"
    )


def test_a_failed_step_says_so_and_the_error_goes_on() -> None:
    stream = io.StringIO()
    progress = Progress(stream, clock=Clock())
    with pytest.raises(ValueError, match="no"), progress.step("build Helm"):
        raise ValueError("no")
    assert stream.getvalue().splitlines()[-1] == "[   0.0s] build Helm failed after 0.0s"


def test_a_terminal_gets_live_lines_and_keeps_the_finished_ones() -> None:
    stream = io.StringIO()
    progress = Progress(stream, live=True)
    with progress.step("build Helm") as helm, progress.step("build [CoreDNS]"):
        helm.note = "downloading"
    progress.say("all done")
    text = stream.getvalue()
    assert "downloading" in text
    assert "build [CoreDNS] done in 0.0s" in text
    assert text.endswith("all done\n")
    assert "\x1b[" in text


def test_a_terminal_can_be_used_again_after_all_steps_ended() -> None:
    stream = io.StringIO()
    progress = Progress(stream, live=True)
    for name in ("first", "second"):
        with progress.step(name):
            pass
    assert "first done" in stream.getvalue()
    assert "second done" in stream.getvalue()
