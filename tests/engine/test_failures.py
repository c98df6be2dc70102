"""What fails stops what depends on it and nothing else, and no failure deletes anything."""

import pytest

from lab.engine.config import ConfigError


def test_a_failed_resource_stops_only_its_dependents(stack):
    stack.program(
        """
        bad = Thing("bad", **({"fail": "no room"} if phase == "2" else {}), value=phase)
        needs = Thing("needs", value=bad.out)
        group = Group("group", {"x": bad.out})
        inside = Thing("inside", opts=group.child)
        apart = Thing("apart", value=phase)
        if phase != "3":
            below = Thing("below")
            Thing("user", below=below.out, opts=Opts(depends_on=[bad]))
        if phase == "1":
            Thing("unwanted")
        group.register_outputs({})
        pulumi.export("vms", {"bad": bad.out, "apart": apart.out})
        pulumi.export("needs", needs.out)
        """
    )
    new = stack.up("2")
    assert not new.good
    assert new.errors == [("bad", "cannot create bad: no room")]
    assert sorted(new.skipped) == ["group", "inside", "needs", "user"]
    assert new.skipped["needs"] == "fake:index:Thing bad failed or was skipped"
    assert sorted(stack.objects()) == ["apart", "below"]
    assert stack.engine.outputs()["vms"]["apart"] == "out-apart"

    assert stack.up("1").good
    assert sorted(stack.objects()) == ["apart", "bad", "below", "inside", "needs", "unwanted", "user"]
    bad = stack.up("2")
    assert bad.errors[0][1].startswith("cannot update bad-")
    assert stack.objects()["apart"]["value"] == "2"
    assert stack.objects()["bad"]["value"] == "1"
    assert stack.calls() == ["update apart", "delete unwanted"]
    assert stack.engine.outputs()["vms"]["apart"] == "out-apart"
    assert stack.up("1").good


def test_what_a_failed_resource_needs_is_kept(stack):
    stack.program(
        """
        if phase == "1":
            below = Thing("below")
            Thing("top", value=below.out)
            Chart("chart", {"value": 1})
            Thing("stuck", stuck=1, value=Thing("under").out)
        else:
            Thing("top", fail="broken")
            Chart("chart", {"value": 1, "extra": {"invalid": "x"}})
        """
    )
    assert stack.up("1").good
    result = stack.up("2")
    assert {name for name, _ in result.errors} == {"top", "chart-one", "stuck"}
    assert ("chart-one", "invalid: must not be x") in result.errors
    assert sorted(stack.objects()) == ["below", "chart-one", "chart-two", "stuck", "top", "under"]
    assert sorted(set(result.skipped) & {"below", "under"}) == ["below", "under"]


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        ("raise pulumi.RunError('settings: two things are wrong')", "settings: two things are wrong"),
        ("1 / 0", "the program failed: ZeroDivisionError: division by zero"),
        ("import os; os._exit(3)", "the program ended with exit code 3"),
        ("import sys; sys.exit(4)", "the program ended itself: exit code 4"),
        ("Thing('one')", "two resources have the URN urn:pulumi:dev::demo::fake:index:Thing::one"),
    ],
)
def test_a_program_that_fails_deletes_nothing(stack, ending, message):
    stack.program(f"Thing('one', value=phase)\nif phase == '1': Thing('two'); pulumi.export('x', 1)\nelse: {ending}")
    assert stack.up("1").good
    result = stack.up("2")
    assert not result.good
    assert message in result.errors[0][1]
    assert ("Traceback" in result.text, 'File "' in result.text) == (False, "ZeroDivision" in message)
    if "URN" not in message:
        assert sorted(stack.objects()) == ["one", "two"]
        assert stack.engine.outputs() == {"x": 1}


def test_types_and_options_that_the_engine_does_not_have(stack):
    stack.program(
        """
        class Cloud(pulumi.CustomResource):
            pass
        Other("other")
        Cloud("aws:s3:Bucket", "bucket", {})
        Thing("imported", opts=Opts(import_="x"))
        Thing("protected", opts=Opts(protect=True))
        Thing("read", opts=Opts(id="x"))
        Thing("file", content=pulumi.StringAsset("x"))
        Thing("fine")
        """
    )
    result = stack.up()
    errors = dict(result.errors)
    assert errors["other"] == "resource type fake:index:Unheard is not supported by the embedded engine"
    assert "package aws is not part of the embedded engine" in result.text
    assert "bucket" in errors
    assert errors["imported"] == "`import` is not supported by the embedded engine"
    assert errors["protected"] == "`protect` is not supported by the embedded engine"
    assert errors["read"] == "reading a fake:index:Thing that exists already is not supported by the embedded engine"
    assert errors["file"] == "of assets and archives the embedded engine supports files only"
    assert sorted(stack.objects()) == ["fine"]


@pytest.mark.parametrize(
    "line",
    [
        "Thing('x', opts=Opts(hooks=pulumi.ResourceHookBinding(before_create=[lambda args: None])))",
        "Thing('x', opts=Opts(transforms=[lambda args: None]))",
        "Thing('x', opts=Opts(replace_with=[Thing('y')]))",
    ],
)
def test_features_that_are_not_announced_are_refused_by_the_sdk(stack, line):
    stack.program(line)
    result = stack.preview()
    assert not result.good
    assert "does not support" in result.text


def test_a_provider_that_depends_on_what_the_run_makes_has_no_preview(stack):
    stack.program("Thing('one', opts=Opts(provider=Provider('p', cluster=Thing('name').out)))")
    errors = stack.preview().errors
    assert errors == [("one", "pulumi:providers:fake p depends on what this run makes, so there is no preview")]
    assert stack.up().good


def test_something_that_exists_but_is_not_ready(stack):
    stack.program("Thing('slow', **({'unready': 1} if phase == '1' else {})); Thing('next', v=Thing('other').out)")
    assert stack.up("1").errors == [("slow", "slow is not ready")]
    assert stack.up("1").changes == [("update", "slow")]
    assert [line for line in stack.lines() if "create" in line] == []
    assert stack.records()["slow"].get("initErrors") is None
    assert stack.objects_named("slow") == 1


def test_files_that_are_wrong_or_missing(stack):
    (stack.directory / "Pulumi.yaml").write_text(
        "name: demo\nconfig:\n  count: {type: integer}\n  flag: {type: boolean}\n  list: {type: array, default: [1]}\n"
        "  need: {type: object}\n"
    )
    (stack.directory / "Pulumi.dev.yaml").write_text(
        "config:\n  demo:count: many\n  demo:flag: 'true'\n  demo:key: {secure: v1:abc}\n  bare: 1\n"
    )
    with pytest.raises(ConfigError) as error:
        stack.up()
    assert str(error.value).splitlines() == [
        "configuration of stack dev:",
        "  demo:need: missing; Pulumi.yaml declares it without a default",
        "  demo:key: is encrypted (`secure`), which only the pulumi CLI can read; use it (ENGINE=pulumi), "
        "or for the lab give the value as a file that is not committed",
        "  bare: must be one of the project's own keys, `demo:...`",
    ]
    (stack.directory / "Pulumi.dev.yaml").unlink()
    with pytest.raises(ConfigError, match=r"Pulumi\.dev\.yaml does not exist"):
        stack.preview()
