"""The tool cache, and building what it does not hold."""

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.progress import Progress
from lab.toolchain.build import build_missing
from lab.toolchain.cache import Cache, Job, Lane, Part, cache_root, sources
from lab.toolchain.commands import BuildError, Cancelled, Crew, Shell


def quiet() -> Progress:
    return Progress(io.StringIO(), live=False)


def part(
    name: str = "thing",
    build: Callable[[Job], None] | None = None,
    *,
    inputs: tuple[str, ...] = ("1",),
    needs: tuple[Part, ...] = (),
    lane: Lane = Lane.CPU,
) -> Part:
    def touch(job: Job) -> None:
        (job.target / "made").write_text(name)

    return Part(name=name, title=f"build {name}", inputs=inputs, build=build or touch, lane=lane, needs=needs)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


class TestKeys:
    def test_the_same_inputs_give_the_same_folder(self) -> None:
        assert part().folder_name == part().folder_name

    @pytest.mark.parametrize(
        "other",
        [part("other"), part(inputs=("2",)), part(inputs=("1", "1")), part(needs=(part("need"),))],
        ids=["name", "input", "more inputs", "needs"],
    )
    def test_anything_different_gives_another(self, other: Part) -> None:
        assert other.key != part().key

    def test_a_change_in_what_is_needed_reaches_what_needs_it(self) -> None:
        first, second = (part("top", needs=(part("low", inputs=(text,)),)) for text in "12")
        assert first.key != second.key

    def test_sources_follow_the_bytes_of_files_in_folders(self, tmp_path: Path) -> None:
        (tmp_path / "code/deep").mkdir(parents=True)
        (tmp_path / "code/deep/main.go").write_text("package main")
        before = sources(tmp_path / "code")
        assert before == sources(tmp_path / "code")
        assert before[0].startswith("code/deep/main.go ")
        (tmp_path / "code/deep/main.go").write_text("package other")
        assert sources(tmp_path / "code") != before

    def test_the_cache_is_where_the_variables_say(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delenv("ISTIO_VM_MESH_CACHE", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache_root() == tmp_path / "istio-vm-mesh"
        monkeypatch.setenv("ISTIO_VM_MESH_CACHE", str(tmp_path / "own"))
        assert cache_root() == tmp_path / "own"


class TestCache:
    def test_a_part_is_built_once(self, tmp_path: Path) -> None:
        built: list[Path] = []
        thing = part(build=lambda job: built.append(job.target))
        cache = Cache(tmp_path)
        cache.make(thing, Crew())
        cache.make(thing, Crew())
        assert len(built) == 1
        assert cache.has(thing)
        assert not built[0].exists()

    def test_a_failed_build_leaves_nothing(self, tmp_path: Path) -> None:
        def fail(job: Job) -> None:
            (job.target / "half").write_text("")
            raise BuildError("no")

        thing = part(build=fail)
        cache = Cache(tmp_path)
        with pytest.raises(BuildError):
            cache.make(thing, Crew())
        assert not cache.has(thing)
        assert names(tmp_path / "tmp") == []

    def test_what_a_killed_build_left_is_removed(self, tmp_path: Path) -> None:
        thing = part()
        (tmp_path / f"tmp/{thing.folder_name}.killed").mkdir(parents=True)
        (tmp_path / "tmp/another-part.running").mkdir()
        Cache(tmp_path).make(thing, Crew())
        assert names(tmp_path / "tmp") == ["another-part.running"]

    def test_two_runs_at_once_build_it_once(self, tmp_path: Path) -> None:
        built = []

        def slow(_: Job) -> None:
            built.append(time.monotonic())
            time.sleep(0.2)

        thing = part(build=slow)
        runs = [threading.Thread(target=Cache(tmp_path).make, args=(thing, Crew())) for _ in range(3)]
        for run in runs:
            run.start()
        for run in runs:
            run.join()
        assert len(built) == 1

    def test_waiting_for_another_run_can_be_cancelled(self, tmp_path: Path) -> None:
        holding, done = threading.Event(), threading.Event()

        def hold(_: Job) -> None:
            holding.set()
            done.wait(10)

        thing = part(build=hold)
        holder = threading.Thread(target=Cache(tmp_path).make, args=(thing, Crew()))
        holder.start()
        assert holding.wait(10)
        crew = Crew()
        threading.Timer(0.1, crew.cancel).start()
        with pytest.raises(Cancelled):
            Cache(tmp_path).make(thing, crew)
        done.set()
        holder.join()

    def test_prune_removes_older_versions_of_our_parts_only(self, tmp_path: Path) -> None:
        cache, old, new, other = Cache(tmp_path), part(inputs=("0",)), part(), part("other")
        for each in (old, new, other):
            cache.make(each, Crew())
        (tmp_path / "venv-0123456789abcdef").mkdir()
        for name in (old.folder_name, new.folder_name):
            (tmp_path / f"tmp/{name}.killed").mkdir()
        assert cache.prune([new]) == [old.folder_name]
        assert cache.has(new)
        assert cache.has(other)
        assert not (tmp_path / f"log/{old.folder_name}.log").exists()
        assert (tmp_path / "venv-0123456789abcdef").exists()
        assert names(tmp_path / "tmp") == [f"{new.folder_name}.killed"]

    def test_prune_keeps_what_is_in_use(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        cache, old = Cache(tmp_path), part(inputs=("0",))
        cache.make(old, Crew())
        used = f"{cache.folder(old)}/root"
        monkeypatch.setattr("lab.toolchain.cache.paths_in_use", lambda: {used})
        assert cache.prune([part()]) == []
        assert cache.has(old)


class TestShell:
    def test_it_returns_the_output_and_logs_the_command(self, tmp_path: Path) -> None:
        shell = Shell(tmp_path / "log", Crew(), "")
        assert shell.run("sh", "-c", "echo out; echo err >&2; echo $COLOUR", env={"COLOUR": "blue"}) == "out\nblue\n"
        log = (tmp_path / "log").read_text()
        assert log.startswith("$ sh -c ")
        assert {"out", "err", "blue"} <= set(log.splitlines())

    def test_an_empty_value_removes_a_variable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GOFLAGS", "-mod=mod")
        shell = Shell(tmp_path / "log", Crew(), "")
        assert shell.run("sh", "-c", "echo ${GOFLAGS-none}", env={"GOFLAGS": ""}) == "none\n"

    def test_a_failure_names_command_log_end_and_remedy(self, tmp_path: Path) -> None:
        shell = Shell(tmp_path / "log", Crew(), "check the mirror")
        with pytest.raises(BuildError) as failure:
            shell.run("sh", "-c", "seq 100; exit 3")
        lines = str(failure.value).splitlines()
        assert lines[0] == "`sh -c seq 100; exit 3` failed with exit code 3; check the mirror"
        assert lines[1] == f"  the log is {tmp_path}/log, its end:"
        assert lines[2:] == [f"    {number}" for number in range(86, 101)]

    def test_a_command_that_hangs_is_ended(self, tmp_path: Path) -> None:
        shell = Shell(tmp_path / "log", Crew(), "look")
        with pytest.raises(BuildError, match=r"^`sleep 30` took longer than 0.2 s; look"):
            shell.run("sleep", "30", limit=0.2)

    def test_a_program_that_is_not_there_is_a_failure_too(self, tmp_path: Path) -> None:
        with pytest.raises(BuildError, match="`no-such-program` failed"):
            Shell(tmp_path / "log", Crew(), "").run("no-such-program")

    def test_cancelling_ends_the_command_and_its_children(self, tmp_path: Path) -> None:
        crew = Crew()
        threading.Timer(0.2, crew.cancel).start()
        start = time.monotonic()
        with pytest.raises(Cancelled):
            Shell(tmp_path / "log", crew, "").run("sh", "-c", "sleep 30; true")
        assert time.monotonic() - start < 5
        with pytest.raises(Cancelled):
            Shell(tmp_path / "log", crew, "").run("true")


class TestBuilding:
    def test_what_is_needed_comes_first_and_a_second_run_builds_nothing(self, tmp_path: Path) -> None:
        order: list[str] = []

        def note(name: str) -> Callable[[Job], None]:
            return lambda job: order.append(name)

        low = part("low", note("low"), lane=Lane.NETWORK)
        middle = part("middle", note("middle"), needs=(low,))
        top = part("top", note("top"), needs=(low, middle), lane=Lane.DISK)
        cache = Cache(tmp_path)
        build_missing([low, middle, top], cache, quiet())
        assert order == ["low", "middle", "top"]
        build_missing([low, middle, top], cache, quiet())
        assert len(order) == 3

    def test_only_the_missing_part_is_built_again(self, tmp_path: Path) -> None:
        low, top = part("low"), part("top", needs=(part("low"),))
        cache = Cache(tmp_path)
        build_missing([low, top], cache, quiet())
        cache.folder(low).rename(tmp_path / "gone")
        shown = io.StringIO()
        build_missing([low, top], cache, Progress(shown, live=False))
        assert "build low done" in shown.getvalue()
        assert "build top" not in shown.getvalue()

    def test_a_lane_does_one_build_at_a_time_and_lanes_run_beside_each_other(self, tmp_path: Path) -> None:
        meeting = threading.Barrier(2, timeout=10)
        inside: list[str] = []
        most = []

        def meet(job: Job) -> None:
            inside.append(job.target.name)
            most.append(len(inside))
            if "late" not in job.target.name:
                meeting.wait()
            inside.remove(job.target.name)

        parts = [part("first", meet), part("late", meet), part("beside", meet, lane=Lane.DISK)]
        build_missing(parts, Cache(tmp_path), quiet())
        assert max(most) == 2

    def test_a_failure_ends_the_others_names_the_part_and_keeps_what_was_done(self, tmp_path: Path) -> None:
        def fail(job: Job) -> None:
            job.shell.run("sh", "-c", "sleep 0.3; echo disk full; exit 1")

        def run_long(job: Job) -> None:
            job.shell.run("sleep", "30")

        done = part("done")
        bad = part("bad", fail, lane=Lane.NETWORK)
        beside = part("beside", run_long, lane=Lane.DISK)
        above = part("above", needs=(bad,))
        cache = Cache(tmp_path)
        start = time.monotonic()
        with pytest.raises(BuildError, match=r"^build bad: `sh -c .*disk full"):
            build_missing([done, bad, beside, above], cache, quiet())
        assert time.monotonic() - start < 5
        assert [cache.has(each) for each in (done, bad, beside, above)] == [True, False, False, False]

    def test_an_error_of_the_system_becomes_a_message(self, tmp_path: Path) -> None:
        def fail(job: Job) -> None:
            raise OSError(28, "No space left on device")

        with pytest.raises(BuildError, match=r"build bad: .*No space left on device"):
            build_missing([part("bad", fail)], Cache(tmp_path), quiet())
