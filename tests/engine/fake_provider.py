"""A provider whose objects are files in a folder, so that tests can look at the world that a run leaves behind.

`name` and everything in `immutable` replace; `fail`, `sleep` and `echo` do what they say.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.engine.providers.base import CheckError, Child, Context, Diff, ProviderError, Values
from lab.engine.values import UNKNOWN, Secret

TYPES = ("fake:index:Thing", "fake:index:Chart")


class FakeProvider:
    """Keeps objects as `<folder>/<id>.json` and what was called, in order, in `calls`."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.folder, self.config = folder, config

    def log(self, *words: str) -> None:
        with (self.folder / "calls").open("a") as file:
            file.write(" ".join(words) + "\n")

    def write(self, identity: str, inputs: Values) -> None:
        temporary = self.folder / f"{identity}.new"
        temporary.write_text(json.dumps(dict(inputs)))
        temporary.rename(self.folder / f"{identity}.json")

    def supports(self, type_: str) -> bool:
        return type_ in TYPES

    def moved(self, old_config: Values) -> tuple[str, ...]:
        return ("cluster",) if old_config.get("cluster") != self.config.get("cluster") else ()

    def check(self, type_: str, old: Values | None, new: Values, *, name: str) -> dict[str, Any]:
        if new.get("invalid"):
            raise CheckError([("invalid", f"must not be {new['invalid']}")])
        return {"name": (old or {}).get("name", name), **new}

    def diff(self, type_: str, id_: str, old_inputs: Values, old_outputs: Values, new_inputs: Values) -> Diff:
        keys = [key for key in {*old_inputs, *new_inputs} if old_inputs.get(key) != new_inputs.get(key)]
        replace = tuple(key for key in keys if key in ("name", "immutable"))
        return Diff(bool(keys), replace=replace, delete_before_replace="fixed" in new_inputs)

    def create(self, type_: str, inputs: Values, context: Context) -> tuple[str, dict[str, Any]]:
        if context.preview:
            return "", {**inputs, "token": UNKNOWN, "out": UNKNOWN}
        name = inputs["name"]
        self.log(
            "create-begin",
            name,
            *(["adopt"] if context.adopt else []),
            *([str(context.timeout)] if context.timeout else []),
        )
        time.sleep(inputs.get("sleep", 0))
        if "fail" in inputs:
            raise ProviderError(f"cannot create {name}: {inputs['fail']}")
        existing = [path.stem for path in self.folder.glob(f"{name}-*.json")] if context.adopt else []
        identity = inputs.get("key") or (existing[0] if existing else f"{name}-{uuid.uuid4().hex[:6]}")
        self.write(identity, inputs)
        time.sleep(inputs.get("sleepAfter", 0))
        self.log("create", name)
        outputs = {**inputs, "token": Secret(f"tok-{name}-secret"), "out": f"out-{name}"}
        if "unready" in inputs:
            raise ProviderError(f"{name} is not ready", partial=(identity, outputs))
        return identity, outputs

    def update(
        self, type_: str, id_: str, old_inputs: Values, old_outputs: Values, new_inputs: Values, context: Context
    ) -> dict[str, Any]:
        if not context.preview:
            if "fail" in new_inputs:
                raise ProviderError(f"cannot update {id_}: {new_inputs['fail']}")
            self.write(id_, new_inputs)
            self.log("update", new_inputs["name"])
        return {**old_outputs, **new_inputs}

    def delete(self, type_: str, id_: str, inputs: Values, outputs: Values, context: Context) -> None:
        if inputs.get("stuck"):
            raise ProviderError(f"{id_} does not want to go")
        time.sleep(inputs.get("sleepDelete", 0))
        (self.folder / f"{id_}.json").unlink(missing_ok=True)
        self.log("delete", inputs["name"])

    def invoke(self, token: str, args: Values) -> dict[str, Any]:
        if args.get("fail"):
            raise ProviderError("the call failed")
        return {"answer": f"{token}:{args.get('q')}", "key": Secret("invoke-secret")}

    def construct(self, type_: str, name: str, inputs: Values, context: Context) -> list[Child] | None:
        if type_ != "fake:index:Chart":
            return None
        one = Child("fake:index:Thing", f"{name}-one", {"value": inputs.get("value"), **inputs.get("extra", {})})
        two = Child("fake:index:Thing", f"{name}-two", {"value": inputs.get("value")}, depends_on=(f"{name}-one",))
        return [two, one]
