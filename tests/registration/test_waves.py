"""The order of changes: every VM exactly once, waves of the size that was asked for, and nobody waits who need not."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.objects import ENTRIES, GROUPS
from registration.ladder import DeclaredVm
from registration.waves import Standing, Waves, attempts, plan, standing_of, wave_size
from registration.waves_reader import read

NAMES = [f"vm-{i}" for i in range(12)]
STANDINGS = st.builds(Standing, serves=st.booleans(), configuration=st.sampled_from(["", "old", "new"]))


@given(
    st.lists(st.sampled_from(NAMES), unique=True),
    st.fixed_dictionaries(dict.fromkeys(NAMES, STANDINGS)),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["old", "new"])),
    st.integers(1, 15),
)
def test_waves(vms: list[str], standing: dict[str, Standing], wanted: dict[str, str], size: int) -> None:
    waves = plan(vms, standing, wanted, size)
    there = [vm for vm in vms if vm in wanted]
    changes = [vm for vm in there if standing[vm].serves and wanted[vm] != standing[vm].configuration]
    assert [vm for wave in waves.waves for vm in wave] == changes
    assert all(len(wave) == size for wave in waves.waves[:-1])
    assert all(0 < len(wave) <= size for wave in waves.waves)
    assert waves.first == tuple(vm for vm in there if not standing[vm].serves)
    for vm in vms:
        index = waves.wave_of(vm)
        if index is None:  # new, off, unhealthy or unchanged
            assert waves.before(vm) == ()
        else:
            assert set(waves.before(vm)) == {*waves.first, *(name for wave in waves.waves[:index] for name in wave)}


@pytest.mark.parametrize(
    ("asked", "vms", "size"), [(1, 50, 1), (3, 2, 3), ("25%", 50, 12), ("25%", 3, 1), ("100%", 7, 7), ("1%", 0, 1)]
)
def test_a_share_is_rounded_down_but_never_to_nobody(asked: int | str, vms: int, size: int) -> None:
    assert wave_size(asked, vms) == size


def test_a_vm_that_serves_nobody_waits_for_nobody() -> None:
    standing = {"sick": Standing(configuration="c"), "well": Standing(serves=True), "new": Standing()}
    waves = plan(list(standing), standing, dict.fromkeys(standing, "c"), 1)
    assert waves == Waves(first=("sick", "new"), waves=(("well",),))
    assert waves.before("new") == ()
    assert waves.before("well") == ("sick", "new"), "it would be away besides them"


VM = DeclaredVm(name="billing-1", namespace="vm-apps", workload="billing", address="10.77.0.21", has_probe=True)


def entry(*, connected: bool = True, status: str | None = "True", label: str = "c1") -> dict[str, object]:
    return {
        "metadata": {
            "name": "billing-10.77.0.21",
            "namespace": "vm-apps",
            "labels": {"istio-vm-mesh/configuration": label},
            "annotations": {"istio.io/connectedAt": "2026-11-21T11:00:00Z"} if connected else {},
        },
        "spec": {"address": "10.77.0.21"},
        "status": {"conditions": [{"type": "Healthy", "status": status}]} if status else {},
    }


@pytest.mark.parametrize(
    ("found", "has_probe", "serves"),
    [
        (entry(), True, True),
        (entry(status="False"), True, False),
        (entry(status=None), True, False),
        (entry(status=None), False, True),
        (entry(connected=False), True, False),
    ],
)
def test_a_vm_serves_if_it_is_connected_and_healthy(found: dict[str, object], has_probe: bool, serves: bool) -> None:
    vm = dataclasses.replace(VM, has_probe=has_probe)
    assert standing_of(vm, (found,), ()) == Standing(serves=serves, configuration="c1")


def test_what_the_cluster_says_reaches_the_program() -> None:
    group = {
        "metadata": {
            "name": "billing",
            "namespace": "vm-apps",
            "annotations": {"went-back.istio-vm-mesh/billing-1": "c2.1"},
        }
    }
    found = read((VM,), {ENTRIES: {"items": [entry()]}, GROUPS: {"items": [group]}}.get)
    assert found == {"billing-1": Standing(serves=True, configuration="c1", went_back="c2.1")}
    assert read((VM,), {}.get) == {"billing-1": Standing()}, "Istio's kinds are not there yet"


def test_attempts_count_for_the_configuration_that_failed_only() -> None:
    assert attempts("c2.3", "c2") == 3
    assert attempts("c2.3", "c1") == attempts("", "c1") == attempts("c2", "c2") == 0
