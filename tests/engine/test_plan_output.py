"""What people and programs read: the plan, its JSON, the progress, the summary."""

import io
import json
import time

from lab.engine.diffs import MISSING
from lab.engine.display import Display
from lab.engine.model import Step
from lab.engine.render import change_lines
from lab.engine.values import UNKNOWN, Secret


def test_a_plan_shows_the_lines_that_change(stack):
    stack.program(
        """
        text = "".join(f"line {i}\\n" for i in range(50))
        text = text if phase == "1" else text.replace("line 7\\n", "line seven\\n")
        one = Thing("one", stdin=text, labels={"app.io/v": phase})
        extra = {"gone": 1} if phase == "1" else {"came": [1]}
        two = Thing("two", immutable=phase, secret=pulumi.Output.secret("word" + phase), **extra)
        Thing("three", from_two=two.out)
        if phase == "1":
            Thing("kept", opts=Opts(retain_on_delete=True))
        else:
            Thing("four", spec={"a": [1, {"b": True}]})
        pulumi.export("version", phase)
        """
    )
    assert stack.up("1").good
    assert [line for line in stack.preview("2").text.splitlines() if "(0." not in line] == [
        " +  fake:index:Thing four",
        " -  fake:index:Thing kept  (retained)",
        " ~  fake:index:Thing one",
        '      labels["app.io/v"]: "1" => "2"',
        "      stdin:",
        "        - line 7",
        "        + line seven",
        " ~  fake:index:Thing three",
        '      from_two: "out-two" => (known after up)',
        " +- fake:index:Thing two  (because of immutable)",
        "      + came: [1]",
        "      - gone: 1",
        '      immutable: "1" => "2"',
        "      secret: [secret] => [secret]",
        "",
        "Outputs:",
        '  version: "1" => "2"',
        "",
    ]
    more = stack.preview("2", more=True).text
    assert "          line 6\n" in more
    assert "          line 40" not in more
    assert "      spec:\n      " in more
    assert more.splitlines()[-1].startswith(
        "Resources: 1 to create, 2 to update, 1 to replace, 1 to delete, 2 unchanged"
    )
    up = stack.up("2").text.splitlines()
    assert sum(line.startswith(" ") and " updated " in line for line in up) == 1
    assert up[-1].startswith("Resources: 1 created, 1 updated, 1 replaced, 1 deleted, 3 unchanged  (")


def test_the_json_of_a_preview(stack):
    stack.program(
        """
        one = Thing("one", a={"b": [1, phase]}, password=pulumi.Config().require_secret("password"))
        Thing("two", immutable=phase, value=one.out, opts=Opts(parent=one))
        pulumi.log.warn("careful")
        """
    )
    assert stack.up("1").good
    digest = json.loads(stack.preview("2", as_json=True).text)
    assert digest["config"] == {"demo:phase": "2", "demo:password": "[secret]"}
    assert digest["changeSummary"] == {"same": 2, "update": 1, "replace": 1}
    assert digest["duration"] > 0
    assert [(item["severity"], item["message"]) for item in digest["diagnostics"]] == [("warning", "careful")]
    steps = {(step["op"], step["urn"].rpartition("::")[2]): step for step in digest["steps"]}
    assert [op for op, _ in steps] == [
        *("same", "same"),
        *("update", "create-replacement", "replace", "delete-replaced"),
    ]
    one = steps["update", "one"]
    assert one["detailedDiff"] == {"a.b[1]": {"kind": "update", "inputDiff": True}}
    assert one["diffReasons"] == ["a"]
    assert one["oldState"]["inputs"]["a"] == {"b": [1, "1"]}
    assert one["newState"]["inputs"] == {"a": {"b": [1, "2"]}, "name": "one", "password": "[secret]"}
    assert one["oldState"]["outputs"]["token"] == "[secret]"
    assert one["oldState"]["id"] == one["newState"]["id"]
    assert one["provider"].startswith("urn:pulumi:dev::demo::pulumi:providers:fake::default::")
    two = steps["replace", "two"]
    assert two["replaceReasons"] == ["immutable"]
    assert two["detailedDiff"]["immutable"] == {"kind": "update-replace", "inputDiff": True}
    assert two["newState"]["parent"] == one["urn"]
    assert two["newState"]["propertyDependencies"]["value"] == [one["urn"]]
    assert steps["same", "demo-dev"]["detailedDiff"] is None
    assert stack.up("1").changes == []


def test_lines_of_one_change():
    assert change_lines("a", "x", Secret("y"), more=False) == ['a: "x" => [secret]']
    assert change_lines("a", "x\ny", Secret("y\nz"), more=False) == ['a: "x\\ny" => [secret]']
    assert change_lines("a", {"k": Secret("v")}, UNKNOWN, more=False) == ['a: {"k": "[secret]"} => (known after up)']
    assert change_lines("data.a", MISSING, MISSING, more=False) == ["data.a"]
    long = change_lines("a", "\n".join("abc" * 50), "\n", more=False)
    assert long[-1].endswith("more lines: --diff)")
    assert len(long) < 70
    assert len(change_lines("a", "\n".join("abc" * 50), "\n", more=True)) > 150
    assert change_lines("a", "x" * 999, "y", more=False)[0].count("x") == 159


def test_long_steps_report_now_and_then(monkeypatch):
    out = io.StringIO()
    display = Display(out)
    display.live = True
    clock = time.monotonic()
    step = Step("create", "urn:pulumi:dev::demo::a:b:Slow::one")
    display.begin(step)
    for seconds in range(40):
        monkeypatch.setattr(time, "monotonic", lambda now=clock + seconds + 0.5: now)
        display.report(step.urn, f"at {seconds}")
    assert out.getvalue().splitlines() == [" …  a:b:Slow one: at 15", " …  a:b:Slow one: at 31"]


def test_a_warning_of_a_step_that_went_well_is_told_at_the_end():
    display = Display(io.StringIO())
    step = Step("delete", "urn:pulumi:dev::demo::a:b:Quick::one")
    display.begin(step)
    display.report(step.urn, "on the way")
    display.report(step.urn, "warning: it was given up")
    display.end(step)
    assert display.messages == [("warning", step.urn, "it was given up")]
