"""In which order a host is configured: what takes everything away again is there before there is something."""

from pathlib import Path

import pytest
from host_program import HOST, on_host

from hosts.plan import HELPER, STATE, state_text

STUBS = """
checks() { :; }; installed() { :; }; strays() { return 1; }; remember() { :; }; install_routes() { :; }
install() { :; }; systemctl() { :; }
"""
FAILS = STUBS + 'install_package() { cp "$helper" "$root/then" 2>/dev/null || :; exit 3; }\nconfigure\n'
LEGACY = "#!/bin/sh\n# a program of before, with its settings in it\n"


def place(folder: Path, path: str, text: str) -> Path:
    file = folder / path[1:]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_host_that_fails_half_way_can_be_taken_down(shell: str, tmp_path: Path) -> None:
    assert on_host(shell, tmp_path, FAILS).returncode == 3
    assert (tmp_path / "then").read_bytes() == (tmp_path / "program.sh").read_bytes()
    assert (tmp_path / STATE[1:] / "before").exists()
    assert not (tmp_path / STATE[1:] / "desired").exists(), "what runs is not as it is to become yet"


def test_the_program_of_a_configured_host_is_renewed_before_its_desired_state(tmp_path: Path) -> None:
    helper, desired = place(tmp_path, HELPER, "old"), place(tmp_path, f"{STATE}/desired", "vm: billing-1\n")
    assert on_host("dash", tmp_path, FAILS).returncode == 3
    assert helper.read_bytes() == (tmp_path / "program.sh").read_bytes()
    assert desired.read_text() == "vm: billing-1\n"


def test_a_program_with_its_settings_in_it_stays_until_they_stand_in_a_file(tmp_path: Path) -> None:
    helper = place(tmp_path, HELPER, LEGACY)
    assert on_host("dash", tmp_path, FAILS).returncode == 3
    assert helper.read_text() == LEGACY
    assert on_host("dash", tmp_path, f"{STUBS}install_package() {{ :; }}\nconfigure\n").returncode == 0
    assert helper.read_bytes() == (tmp_path / "program.sh").read_bytes()
    assert (tmp_path / STATE[1:] / "desired").read_text() == state_text(HOST)


@pytest.mark.parametrize("installs", [True, False])
def test_systemd_is_told_of_a_unit_that_came_with_a_package(tmp_path: Path, *, installs: bool) -> None:
    """The drop-in alone would not say so: it is the same before and after an upgrade."""
    package = "install_package() { new_unit=y; }" if installs else "install_package() { :; }"
    told = 'systemctl() { echo "$*" >>"$root/told"; }'
    assert on_host("dash", tmp_path, f"{STUBS}{package}\nconfigure\n").returncode == 0
    assert on_host("dash", tmp_path, f"{STUBS}{package}\n{told}\nconfigure\n").returncode == 0
    assert (tmp_path / "told").exists() == installs
