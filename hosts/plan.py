"""The desired state of a host in, the commands that get it there out; nothing here opens a connection.

One POSIX shell program does everything on a VM (`templates/`). `configure` brings it there together with the files that
it manages, and leaves it installed, so that the other steps are short commands that carry no text of their own.
"""

import functools
import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hosts.sidecar_files import SidecarFiles

_TEMPLATES = Path(__file__).parent / "templates"
HELPER = "/usr/local/lib/istio-vm-mesh/host"
"""Where the program stays on a VM."""
UPLOADED = "/tmp/istio-vm-mesh.XXXXXX"
"""Where the program lies while it configures or removes, as `mktemp` takes it; not below TMPDIR, which sudo ignores."""
CONFIRM_SECONDS = 120
"""Twice as long as `confirm` waits for the sidecar."""
_DROP_IN = "/etc/systemd/system/istio.service.d/istio-vm-mesh.conf"
_ROUTES = "/etc/systemd/system/istio-vm-mesh-routes.service"
_ROUTING_PROTOCOL = 151
"""Number by which the kernel knows our routes; none of those in iproute2's rt_protos."""


@dataclass(frozen=True, kw_only=True)
class Package:
    """The sidecar's package for one architecture and one kind of package manager."""

    url: str | None = None
    """Where the VM downloads it; None: it is a file."""
    file: str | None = None
    """Its path where Pulumi runs; a copy of it is on the VM, under `copied`, when the host is configured."""
    sha256: str
    """64 hex digits; anything else that comes from the URL is refused."""

    @property
    def copied(self) -> str:
        """Name of the copy, in the home folder of the login."""
        return f"istio-vm-mesh-{self.sha256[:16]}.package"


@dataclass(frozen=True, kw_only=True)
class Route:
    """A way from a VM into the cluster's network."""

    to: str
    """IPv4 range, `10.96.0.0/12`."""
    via: str
    """IPv4 address of a neighbour."""


@dataclass(frozen=True, kw_only=True)
class DesiredHost:
    """What a VM is to become."""

    vm: str
    """The VM's name, as it appears in errors."""
    files: SidecarFiles
    configuration: str = ""
    """The same for the same configuration; the VM registers with it."""
    packages: Mapping[str, Package]
    """By package manager and Debian's name of the architecture, as "rpm-arm64". The host picks its own."""
    istiod_host: str
    """The name in istiod's certificate that the VM connects to, such as `istiod.istio-system.svc`."""
    istiod_address: str
    """The IP address behind that name, seen from the VM."""
    istiod_port: int
    address: str
    """The address that the VM registers; it must be on one of its interfaces."""
    clock_port: int | None = None
    """Port at `istiod_address` that leads to istiod's webhooks, whose answers bear its time; None: not compared."""
    istio_version: str = ""
    """istiod's, which the sidecar's must not be newer than."""
    routes: Sequence[Route] = ()
    """Set up by a unit of their own."""
    adopt: bool = False
    """Whether a sidecar that somebody else has installed is taken over; else such a host is refused."""
    confirm_within: int = CONFIRM_SECONDS
    """Seconds after a start of the sidecar in which a new ssh connection must confirm it, or it is taken back."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a `remote.Command` gets."""

    command: str
    """Runs as root or as a user with passwordless sudo."""
    stdin: str = ""
    """Not secret."""


def configure(desired: DesiredHost, record: Sequence[str] = ()) -> Step:
    """Check the host, then install the package and write the files; prints a line for each thing that it changed.

    The record (`hosts.observe`) says what had changed on the host; it becomes the program's last lines there.
    """
    return Step(command=_from_stdin("configure", record), stdin=render(desired))


def unconfigure(desired: DesiredHost) -> str:
    """Return the command that undoes `configure`, given the same standard input; a clean host is a success."""
    return _from_stdin("remove")


def enrol(desired: DesiredHost, mark: str = "") -> Step:
    """Take the token from standard input, and start the sidecar if it does not run as configured.

    The command names the configuration's digest and the mark of the last repair: when one changes, it runs again.
    """
    return Step(command=f"sh {HELPER} enrol {digest(desired)}{mark and f' found-{mark}'}")


def drain(desired: DesiredHost) -> str:
    """Return the command that stops the sidecar for good; one that is not there is a success.

    It names the address and the VM: a machine that has been configured under another one since is left alone.
    """
    return f"if [ -e {HELPER} ]; then sh {HELPER} drain {desired.address} {desired.vm}; fi"


def take_down(address: str, vm: str) -> str:
    """Return the command that undoes everything by the program that is on the VM; a VM without it is a success."""
    return f"if [ -e {HELPER} ]; then sh {HELPER} remove {address} {vm}; fi"


def confirm(desired: DesiredHost, mark: str = "") -> Step:
    """Wait until the sidecar is ready; prints the evidence as one line of JSON."""
    return Step(command=f"sh {HELPER} confirm {digest(desired)}{mark and f' found-{mark}'}")


def configuration(files: SidecarFiles, packages: Mapping[str, Package]) -> str:
    """Return what names a configuration to the mesh: where the packages come from makes no other one."""
    return _hash({"files": asdict(files), "packages": {kind: package.sha256 for kind, package in packages.items()}})


def digest(desired: DesiredHost) -> str:
    """Return what changes whenever the sidecar has to be looked at again: its files or its package."""
    return _hash({"files": asdict(desired.files), "packages": {k: asdict(v) for k, v in desired.packages.items()}})


def render(desired: DesiredHost, *, root: str = "") -> str:
    """Return the host's program, with the files that it manages as its last lines.

    Args:
        desired: What the host is to become.
        root: A folder that stands for `/` where files are written; for tests.
    """
    environment = _environment()
    files, port = desired.files, desired.istiod_port
    managed = {
        "/etc/istio/config/mesh": files.mesh_yaml,
        "/var/lib/istio/envoy/cluster.env": files.cluster_env,
        "/etc/certs/root-cert.pem": files.root_certificate,
        "/etc/hosts": files.hosts,
        _DROP_IN: environment.get_template(_DROP_IN.lstrip("/")).render(helper=HELPER),
    }
    # A single address as the kernel shows it, with which the program compares.
    routes = [Route(to=route.to.removesuffix("/32"), via=route.via) for route in desired.routes]
    if routes:
        unit = environment.get_template(_ROUTES.lstrip("/"))
        managed[_ROUTES] = unit.render(helper=HELPER, routes=routes, protocol=_ROUTING_PROTOCOL)
    return environment.get_template(f"{HELPER.lstrip('/')}.j2").render(
        vm=desired.vm,
        digest=digest(desired),
        restart=_hash({"mesh": files.mesh_yaml, "env": files.cluster_env, "root": files.root_certificate}),
        address=desired.address,
        istiod_host=desired.istiod_host,
        istiod_at=_at(desired.istiod_address, port),
        clock_at=_at(desired.istiod_address, desired.clock_port) if desired.clock_port else "",
        istio_version=desired.istio_version,
        existing="adopt" if desired.adopt else "refuse",
        confirm_within=desired.confirm_within,
        istiod_port=port,
        routes="\n".join(f"{route.to} {route.via}" for route in routes),
        protocol=_ROUTING_PROTOCOL,
        packages=sorted(desired.packages.items()),
        helper=HELPER,
        root=root,
        content=[f"{path}: {line}" for path, text in managed.items() for line in _lines(text)],
    )


@functools.cache
def _environment() -> Environment:
    """Return what reads the templates; each is read once."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["sh"] = shlex.quote
    return environment


def _from_stdin(action: str, record: Sequence[str] = ()) -> str:
    """Return the command that runs the program on its standard input, which removes its temporary file itself."""
    lines = "".join(f"#drift: {line}\n" for line in record)
    take = f"{{ cat && cat <<'END'\n{lines}END\n}}" if record else "cat"
    return f'f=$(mktemp {UPLOADED}) && {take} >"$f" && sh "$f" {action}'


def _at(address: str, port: int) -> str:
    """Return an address with a port as programs take it."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _lines(text: str) -> list[str]:
    """Return the lines of a text file; a last newline that is missing is added by the shell."""
    return text.removesuffix("\n").split("\n")


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
