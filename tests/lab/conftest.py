"""The lab, the dev stack on it, and kubectl: started once for all lab tests, and left running for the next run."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from stack import Kubectl, Stack, committed_config

from lab.progress import Progress
from lab.run import environment
from lab.runtime import Lab, LabSpec, VmSpec


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The running lab, at least as large as the dev stack needs it."""
    running = Lab(LabSpec())
    running.start(Progress())
    return running


@pytest.fixture(scope="session")
def lab_environment(lab: Lab) -> dict[str, str]:
    """What the engine's and kubectl's processes get: the lab's tools on PATH."""
    return environment(os.environ)


@pytest.fixture(scope="session")
def kubectl(lab_environment: dict[str, str]) -> Kubectl:
    return Kubectl(lab_environment)


@pytest.fixture(scope="session")
def dev_stack(lab_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Stack:
    stack = Stack(tmp_path_factory.mktemp("stack") / "Pulumi.dev.yaml", lab_environment)
    stack.up()
    return stack


@pytest.fixture(scope="session")
def joined(dev_stack: Stack) -> Stack:
    """The dev stack with both VMs joined, for tests that only look."""
    return dev_stack


@pytest.fixture
def stack(dev_stack: Stack) -> Iterator[Stack]:
    """The dev stack with both VMs joined, for tests that edit it; afterwards it is as committed again."""
    yield dev_stack
    dev_stack.config = committed_config()
    dev_stack.up()


@pytest.fixture
def vm(lab: Lab, request: pytest.FixtureRequest) -> Iterator[VmSpec]:
    """The fresh VM that the test's file names `HOST`."""
    spec: VmSpec = request.module.HOST
    lab.add_vm(spec)
    yield spec
    lab.remove_vm(spec.name)


@pytest.fixture
def joining(stack: Stack, vm: VmSpec) -> Iterator[Stack]:
    """The dev stack with the VM in it, which is taken out before it goes."""
    stack.billing["vms"][vm.name] = {"address": vm.address}
    yield stack
    stack.billing["vms"].pop(vm.name, None)
    stack.up()
