"""URNs, the names under which state knows resources, and the former names that aliases give them."""

from __future__ import annotations

from typing import Final, NamedTuple

STACK_TYPE: Final = "pulumi:pulumi:Stack"
PROVIDER_PREFIX: Final = "pulumi:providers:"


class Urn(NamedTuple):
    """The parts of a URN; `qualified_type` holds the parents' types, joined by `$`."""

    stack: str
    project: str
    qualified_type: str
    name: str

    @property
    def type(self) -> str:
        """The resource's own type."""
        return self.qualified_type.rpartition("$")[2]

    def __str__(self) -> str:
        return f"urn:pulumi:{self.stack}::{self.project}::{self.qualified_type}::{self.name}"


def parse(urn: str) -> Urn:
    """Split a URN; names may hold anything, `::` too."""
    head, project, qualified_type, name = urn.split("::", 3)
    return Urn(head.removeprefix("urn:pulumi:"), project, qualified_type, name)


def label(urn: str) -> str:
    """Return `type name`, which is how messages name a resource."""
    return f"{parse(urn).type} {parse(urn).name}"


def make(stack: str, project: str, parent: str, type_: str, name: str) -> str:
    """Build a URN; the stack as a parent leaves no trace in it."""
    chain = parse(parent).qualified_type if parent else STACK_TYPE
    return str(Urn(stack, project, type_ if chain == STACK_TYPE else f"{chain}${type_}", name))


def is_provider(type_: str) -> bool:
    """Tell whether a type is that of provider resources."""
    return type_.startswith(PROVIDER_PREFIX)


def package_of(type_: str) -> str:
    """Return the package that a type or function token belongs to."""
    return type_.removeprefix(PROVIDER_PREFIX).split(":", 1)[0]


def inherited(urn: str, parent: str, former_parent: str) -> str:
    """Return the former URN of a child whose parent was renamed; names that begin with the parent's follow it."""
    child, now, former = parse(urn), parse(parent).name, parse(former_parent)
    name = former.name + child.name.removeprefix(now) if child.name.startswith(now) else child.name
    return make(former.stack, former.project, former_parent, child.type, name)
