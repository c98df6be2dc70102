"""How a start decides between continuing, repairing, starting anew and refusing; and what people see."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest
from lab_places import move

from lab import cli, network, paths, processes
from lab.runtime import Component, Lab, LabError, LabSpec, table


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(network, "namespaces", set)
    return move(monkeypatch, tmp_path)


def recorded(owner: Path, alive: Sequence[str], dead: Sequence[str] = ()) -> None:
    processes.write_json(paths.OWNER, {"checkout": str(owner)})
    processes.write_json(paths.SPEC, LabSpec().to_json())
    start = processes.start_time(1)
    assert start is not None
    for name in (*alive, *dead):
        record = processes.Record(name=name, pid=1, started=start + (name in dead), boot=processes.boot_id(), log="/l",
                                  argv=("/bin/true",), env={}, cgroup=name)  # fmt: skip
        processes.write_json(paths.PROCESSES / f"{name}.json", asdict(record))


def complete() -> None:
    paths.READY.touch()
    paths.LAB.mkdir()


def test_nothing_is_left_on_a_clean_machine(places: Path) -> None:
    assert not Lab()._must_start_anew()
    assert Lab().status() == []
    assert Lab().spec == LabSpec()


@pytest.mark.parametrize("trace", ["data", "run/owner.json", "checkout/.lab/state"])
def test_any_trace_of_an_unknown_lab_is_cleared_first(places: Path, trace: str) -> None:
    (places / trace).mkdir(parents=True)
    assert Lab()._must_start_anew()


def test_a_namespace_alone_is_a_trace(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "namespaces", lambda: {"ivm-switch"})
    assert Lab()._must_start_anew()


def test_a_dead_component_is_replaced_in_place(places: Path) -> None:
    recorded(paths.CHECKOUT, ["etcd", "containerd"], ["kubelet"])
    complete()
    assert not Lab()._must_start_anew()
    assert not Lab().running


@pytest.mark.parametrize("lost", ["etcd", "containerd"])
def test_without_its_data_s_keeper_the_lab_is_made_anew(places: Path, lost: str) -> None:
    recorded(paths.CHECKOUT, [name for name in ("etcd", "containerd", "kubelet") if name != lost], [lost])
    complete()
    assert Lab()._must_start_anew()


def test_a_start_that_did_not_finish_is_made_anew(places: Path) -> None:
    recorded(paths.CHECKOUT, ["etcd", "containerd"])
    paths.LAB.mkdir()
    assert Lab()._must_start_anew()


def test_another_checkout_s_running_lab_is_not_touched(places: Path) -> None:
    other = places / "other"
    other.mkdir()
    recorded(other, ["etcd", "containerd"], ["kubelet"])
    with pytest.raises(LabError) as error:
        Lab()._refuse_foreign()
    assert str(error.value) == (
        f"the lab of {other} is running on this machine (2 processes); run `make down` in {other}, then try again"
    )
    other.rmdir()
    with pytest.raises(LabError, match="run `python -m lab stop --foreign`, then try again"):
        Lab()._refuse_foreign()


def test_another_checkout_s_dead_lab_is_cleared(places: Path) -> None:
    recorded(places / "other", [], ["etcd", "containerd"])
    Lab()._refuse_foreign()
    assert Lab()._must_start_anew()


def test_status_tells_running_dead_and_switched_off(places: Path) -> None:
    recorded(paths.CHECKOUT, ["etcd"], ["kubelet"])
    states = {component.name: component.state for component in Lab().status()}
    assert (states["etcd"], states["kubelet"], states["vm-billing-1"]) == ("running", "dead", "stopped")


def test_a_table_has_aligned_columns() -> None:
    rows = [Component("etcd", "running", 7, Path("/a.log")), Component("kube-apiserver", "dead", None, Path("/b.log"))]
    assert table(rows) == (
        "COMPONENT       STATE    PID  LOG\netcd            running  7    /a.log\nkube-apiserver  dead     -    /b.log"
    )


def test_the_command_line_prints_an_error_without_a_traceback(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["shell", "billing-1"]) == 1
    assert capsys.readouterr().err == "lab: no lab is running; start it with `make up` or `python -m lab start`\n"
    assert cli.main(["start", "--clusters", "9"]) == 1
    assert capsys.readouterr().err == "lab: clusters: 1 to 2 (got 9)\n"


def test_status_as_json(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--json"]) == 3
    assert json.loads(capsys.readouterr().out) == {"owner": None, "components": []}
