"""What the lab changes on the machine, and that all of it is taken back."""

import io
import json
import threading
from pathlib import Path

import pytest
from lab_places import move

from lab import cgroups, machine, paths
from lab.progress import Progress
from lab.tasks import Cancel

SATISFIED = {s.name: s.value for s in machine.SETTINGS}


def test_only_what_is_not_as_needed_changes() -> None:
    assert machine.pending(SATISFIED) == []
    assert machine.pending({**SATISFIED, "fs.inotify.max_user_instances": 65536}) == []
    assert [
        s.name for s in machine.pending({**SATISFIED, "fs.inotify.max_user_instances": 128, "kernel.panic": 30})
    ] == [
        *("fs.inotify.max_user_instances", "kernel.panic"),
    ]
    assert machine.pending({}) == []


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    move(monkeypatch, tmp_path)
    monkeypatch.setattr(machine, "_file", lambda name: tmp_path / name)
    for name, value in {**SATISFIED, "fs.inotify.max_user_instances": 128, "kernel.panic": 1}.items():
        (tmp_path / name).write_text(f"{value}\n")
    return tmp_path


def apply() -> str:
    stream = io.StringIO()
    machine.apply_settings(Progress(stream, live=False))
    return stream.getvalue()


def test_each_change_is_announced_and_taken_back(settings: Path) -> None:
    said = apply()
    assert "fs.inotify.max_user_instances = 8192 (was 128; every VM's systemd takes some; stop puts it back)" in said
    assert "max_user_watches" not in said
    assert (settings / "kernel.panic").read_text() == "10\n"
    machine.restore_settings()
    assert (settings / "fs.inotify.max_user_instances").read_text() == "128\n"
    assert (settings / "kernel.panic").read_text() == "1\n"
    assert not paths.SYSCTLS.exists()


def test_a_second_start_keeps_what_was_before_the_first(settings: Path) -> None:
    apply()
    assert apply() == ""
    (settings / "kernel.panic").write_text("60\n")
    assert "kernel.panic = 10 (was 60" in apply()
    assert json.loads(paths.SYSCTLS.read_text()) == {"fs.inotify.max_user_instances": 128, "kernel.panic": 1}


def test_a_setting_that_somebody_changed_meanwhile_is_left_alone(settings: Path) -> None:
    apply()
    (settings / "kernel.panic").write_text("60\n")
    machine.restore_settings()
    assert (settings / "kernel.panic").read_text() == "60\n"


def test_folders_that_were_not_there_go_again_unless_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    move(monkeypatch, tmp_path)
    (tmp_path / "there").mkdir()
    machine.make_folders(str(tmp_path / "there/a/b"), str(tmp_path / "there/c"), str(tmp_path / "there"))
    (tmp_path / "there/c/file").touch()
    machine.remove_folders()
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["c"]


def test_mount_points_are_read_with_their_escapes() -> None:
    text = "36 35 98:0 / /a rw,noatime - ext3 /dev/root rw\n37 36 0:5 /x /a/b\\040c rw shared:1 - tmpfs tmpfs rw\n"
    assert machine.mount_points(text) == [Path("/a"), Path("/a/b c")]


def test_a_tree_with_a_mount_in_it_is_not_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tree/mounted").mkdir(parents=True)
    monkeypatch.setattr(machine, "mounts_below", lambda folder: [tmp_path / "tree/mounted"])
    with pytest.raises(machine.LabError, match="is still mounted"):
        machine.remove_tree(tmp_path / "tree")
    assert (tmp_path / "tree/mounted").is_dir()


def test_a_link_is_removed_without_its_target(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    machine.remove_tree(tmp_path / "link")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["target"]


def test_the_lock_outlives_the_removal_of_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    move(monkeypatch, tmp_path)
    with machine.lock():
        paths.RUN.rmdir()
    with machine.lock():
        assert paths.RUN.is_dir()


def test_who_has_to_wait_for_the_lock_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    move(monkeypatch, tmp_path)
    said: list[str] = []
    order: list[str] = []

    def second() -> None:
        with machine.lock(said.append):
            order.append("second")

    thread = threading.Thread(target=second)
    with machine.lock(said.append):
        thread.start()
        Cancel().until(lambda: bool(said), "the message", 5)
        order.append("first")
    thread.join(5)
    assert said == ["lab: another command is at work on it; waiting"]
    assert order == ["first", "second"]


def test_control_group_hierarchies_of_both_versions() -> None:
    mounts = """proc /proc proc rw 0 0
cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
tmpfs /sys/fs/cgroup tmpfs rw 0 0
"""
    assert cgroups.hierarchies(mounts) == (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup/unified"))
