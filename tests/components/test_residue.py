"""What is done about what Istio leaves behind, run by a shell against a kubectl that answers what it is told to."""

import os
import subprocess
from pathlib import Path

import pytest

from components.kubectl import ClusterAccess
from components.residue import take_away

KUBECTL = """#!/bin/sh
shift
echo "$*" >>"$(dirname "$0")/calls"
case "$*" in
  "get pods"*) printf %s "$ISTIOD" ;;
  "get crds"*) printf "a.istio.io b.istio.io " ;;
  get*) printf %s "$LEFT" ;;
esac
"""
CONFIG_MAPS = "delete configmaps --all-namespaces --selector=istio.io/config=true"
CRDS = "delete crds --ignore-not-found --timeout=60s a.istio.io b.istio.io"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "kubectl").write_text(KUBECTL)
    (tmp_path / "kubectl").chmod(0o755)
    return tmp_path


def run(folder: Path, *, crds: bool, **answers: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    environment = {**os.environ, "PATH": f"{folder}:/usr/bin:/bin", "ISTIOD": "", "LEFT": "", **answers}
    script = take_away(ClusterAccess(), crds=crds)
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, env=environment, timeout=20)
    calls = (folder / "calls").read_text().splitlines()
    return done, [call for call in calls if call.startswith("delete")]


def test_the_root_certificate_goes_from_every_namespace_and_the_crds_stay(folder: Path) -> None:
    done, deleted = run(folder, crds=False)
    assert (done.returncode, deleted) == (0, [CONFIG_MAPS])


def test_another_istiod_keeps_the_root_certificate(folder: Path) -> None:
    assert run(folder, crds=False, ISTIOD="pod/istiod-1")[1] == []


def test_the_crds_go_where_that_is_asked_for(folder: Path) -> None:
    done, deleted = run(folder, crds=True)
    assert (done.returncode, deleted) == (0, [CONFIG_MAPS, CRDS])
    assert "get --all-namespaces '-o=jsonpath=" not in (folder / "calls").read_text(), (
        "the shell has taken the quotes away"
    )
    assert "a.istio.io,b.istio.io" in (folder / "calls").read_text()


def test_the_crds_stay_where_somebody_elses_objects_would_go_with_them(folder: Path) -> None:
    done, deleted = run(folder, crds=True, LEFT="VirtualService shop/reviews\n")
    assert (done.returncode, deleted) == (1, [CONFIG_MAPS])
    assert done.stderr == (
        "istio.removeCrds: these objects are not of this stack and would go with the CRDs; delete them, then destroy "
        "again:\nVirtualService shop/reviews\n"
    )
