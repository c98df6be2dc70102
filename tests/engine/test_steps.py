"""Create, same, update, replace, delete: what the engine decides, and in which order it does it."""


def test_a_stack_from_nothing_to_nothing(stack):
    stack.program(
        """
        group = Group("g")
        one = Thing("one", value=1, opts=group.child)
        two = Thing("two", value=one.out, opts=group.child)
        if phase != "3":
            three = Thing("three", value=1 if phase == "1" else 2, after=two.out)
        group.register_outputs({"two": two.out})
        pulumi.export("two", two.out)
        """
    )
    preview = stack.preview()
    assert preview.changes == [
        ("create", "demo-dev"),
        ("create", "g"),
        ("create", "default"),
        ("create", "one"),
        ("create", "two"),
        ("create", "three"),
    ]
    assert stack.objects() == {}
    up = stack.up()
    assert up.good
    assert up.changes == preview.changes
    assert stack.objects()["two"]["value"] == "out-one"
    assert stack.engine.outputs() == {"two": "out-two"}
    again = stack.up()
    assert (again.good, again.changes, stack.lines()) == (True, [], [])
    assert {op for op, _ in again.steps} == {"same"}
    assert stack.up("2").changes == [("update", "three")]
    assert stack.objects()["three"]["value"] == 2
    assert stack.up("3").changes == [("delete", "three")]
    gone = stack.destroy()
    assert gone.changes == [("delete", name) for name in ("two", "one", "g", "default", "demo-dev")]
    assert stack.calls() == ["delete two", "delete one"]
    assert stack.objects() == {}
    assert stack.records() == {}


def test_replacements_in_both_orders(stack):
    stack.program(
        """
        one = Thing("one", immutable=phase)
        two = Thing("two", value=one.out, same="x")
        if phase == "1":
            Thing("extra")
        """
    )
    stack.up("1")
    first = stack.records()["one"]["id"]
    preview = stack.preview("2")
    assert preview.changes == [
        ("create-replacement", "one"),
        ("replace", "one"),
        ("update", "two"),
        ("delete", "extra"),
        ("delete-replaced", "one"),
    ] or set(preview.changes[3:]) == {("delete", "extra"), ("delete-replaced", "one")}
    assert "(because of immutable)" in preview.text
    up = stack.up("2")
    assert up.good
    assert stack.calls()[0] == "create one"
    assert stack.calls()[-2:] in (["delete extra", "delete one"], ["delete one", "delete extra"])
    assert stack.records()["one"]["id"] != first
    assert sorted(stack.objects()) == ["one", "two"]


def test_delete_before_replace_takes_what_hangs_on_it(stack):
    stack.program(
        """
        one = Thing("one", immutable=phase, fixed="yes" if phase != "9" else None)
        two = Thing("two", immutable=one.token)
        three = Thing("three", value=one.token)
        four = Thing("four", opts=Opts(deleted_with=one))
        five = Thing("five", opts=Opts(depends_on=[one]))
        six = Thing("six", immutable=phase, opts=Opts(delete_before_replace=True))
        seven = Thing("seven", immutable=phase, fixed="yes", opts=Opts(delete_before_replace=False))
        """
    )
    stack.up("1")
    preview = stack.preview("2")
    up = stack.up("2")
    assert up.good
    calls = stack.calls()
    assert [call for call in calls if call.split()[1] in ("one", "two")] == [
        "delete two",
        "delete one",
        "create one",
        "create two",
    ]
    assert "delete four" not in calls  # it goes with the first
    assert calls.index("create one") < calls.index("create four")
    assert not any("five" in call or "three" in call for call in calls)
    assert [call for call in calls if "six" in call] == ["delete six", "create six"]
    assert [call for call in calls if "seven" in call] == ["create seven", "delete seven"]
    assert set(preview.changes) - set(up.changes) == {("update", "three")}  # its input is known only then
    assert set(up.changes) <= set(preview.changes)
    assert ("delete-replaced", "four") in up.changes
    assert stack.up().changes == []


def test_options_that_steer_a_diff(stack):
    stack.program(
        """
        Thing("ignored", a={"b": phase, "c": 1}, opts=Opts(ignore_changes=["a.b"]))
        Thing("forced", a={"b": phase}, opts=Opts(replace_on_changes=["a"]))
        Thing("kept", immutable=phase, opts=Opts(retain_on_delete=True))
        base = Thing("base", immutable=phase)
        Thing("rider", opts=Opts(deleted_with=base))
        Thing("slow", opts=Opts(custom_timeouts=pulumi.CustomTimeouts(create="1m30s")))
        """
    )
    stack.up("1")
    assert "create-begin slow 90.0" in stack.lines()
    up = stack.up("2")
    replaced = {name for op, name in up.changes if op == "replace"}
    assert (up.good, replaced) == (True, {"forced", "kept", "base", "rider"}), up.text
    assert ("same", "ignored") in up.steps
    assert not any("delete kept" in call or "delete rider" in call for call in stack.calls())
    assert stack.objects_named("kept") == 2
    assert stack.records()["ignored"]["inputs"]["a"]["b"] == "1"


def test_aliases_move_resources_without_touching_them(stack):
    stack.program(
        """
        if phase == "1":
            group = Group("g")
            Thing("g-one", value=1, opts=group.child)
            Thing("two", value=1)
            Thing("three", value=1)
            provider = Provider("p", cluster="c1")
            Thing("four", value=1, opts=Opts(provider=provider))
            Thing("left", opts=Opts(provider=provider))
        else:
            former = pulumi.Alias(name="g", type_="demo:index:Group")
            group = Group("h", type_="demo:index:Crowd", opts=Opts(aliases=[former]))
            Thing("h-one", value=1, opts=group.child)
            two = "urn:pulumi:dev::demo::fake:index:Thing::two"
            Thing("zwei", value=1, opts=Opts(aliases=[two]))
            top = pulumi.Alias(parent=pulumi.ROOT_STACK_RESOURCE)
            Thing("three", value=1, opts=Opts(parent=group, aliases=[top]))
            provider = Provider("q", cluster="c1", opts=Opts(aliases=[pulumi.Alias(name="p")]))
            Thing("four", value=1, opts=Opts(provider=provider))
        """
    )
    stack.up("1")
    for result in (stack.preview("2"), stack.up("2")):
        assert (result.good, result.changes) == (True, [("delete", "left")]), result.text
    assert stack.lines() == ["delete left"]
    records = stack.records()
    assert records["h-one"]["urn"] == "urn:pulumi:dev::demo::demo:index:Crowd$fake:index:Thing::h-one"
    assert records["four"]["provider"].startswith(records["q"]["urn"])
    assert "g" not in records
    assert "p" not in records
    assert stack.up("2").changes == []


def test_providers_explicit_inherited_and_moved(stack):
    stack.program(
        """
        provider = Provider("p", cluster="c2" if phase in ("3", "4") else "c1", note=phase)
        group = Group("g", opts=Opts(provider=provider))
        Thing("inside", **({"fail": "unreachable"} if phase == "4" else {}), opts=group.child)
        Thing("outside")
        """
    )
    stack.up("1")
    records = stack.records()
    assert records["inside"]["provider"] == f"{records['p']['urn']}::{records['p']['id']}"
    assert "::default::" in records["outside"]["provider"]
    assert stack.up("2").changes == [("update", "p")]
    before = stack.objects()
    assert stack.up("4").errors == [("inside", "cannot create inside: unreachable")]
    back = stack.up("2")  # a wrong kubeconfig, say, put right
    assert back.good
    assert {name for op, name in back.changes if op == "replace"} == {"p"}
    assert (stack.calls(), stack.objects()) == ([], before)
    moved = stack.up("3")
    assert moved.good
    assert {name for op, name in moved.changes if op == "replace"} == {"p", "inside"}
    assert sorted(stack.objects()) == ["inside", "outside"]
    assert moved.changes[-1] == ("delete-replaced", "p")


def test_an_object_that_its_replacement_took_over_is_not_deleted(stack):
    stack.program("Thing('twin', key='twin-0', immutable=phase)")
    stack.up("1")
    assert ("replace", "twin") in stack.up("2").changes
    assert stack.objects()["twin"]["immutable"] == "2"
    assert len(stack.records()) == 3


def test_children_of_a_remote_component(stack):
    stack.program(
        """
        if phase != "3":
            chart = Chart("c", {"value": phase, "extra": {"password": pulumi.Output.secret("hunter22")}})
            Thing("after", sleepDelete=0.1, opts=Opts(depends_on=[chart]))
            pulumi.export("n", chart.resources.apply(lambda r: len(r)))
        """
    )
    stack.preview("1")
    assert stack.up("1").good
    assert stack.calls() == ["create c-one", "create c-two", "create after"]
    urn = "urn:pulumi:dev::demo::fake:index:Chart$fake:index:Thing::c-one"
    assert stack.records()["c-one"]["urn"] == urn
    assert "hunter22" not in (stack.engine.state / "dev.json").read_text()
    assert stack.engine.outputs() == {"n": 2}
    assert sorted(stack.up("2").changes) == [("update", "c"), ("update", "c-one"), ("update", "c-two")]
    stack.up("3")
    assert stack.calls()[0] == "delete after"
    assert stack.calls()[1:] == ["delete c-two", "delete c-one"]


def test_calls_and_references_to_other_stacks(stack):
    stack.program(
        """
        answer = pulumi.runtime.invoke("fake:index:ask", {"q": 1}).value
        hidden = pulumi.runtime.invoke_output("fake:index:ask", {"q": pulumi.Output.secret("s3cret")})
        pulumi.export("answer", answer["answer"])
        pulumi.export("hidden", hidden)
        if phase == "2":
            other = pulumi.StackReference("organization/demo/dev")
            pulumi.export("other", other.get_output("answer"))
            pulumi.export("key", other.get_output("hidden"))
        if phase == "3":
            pulumi.StackReference("organization/demo/nowhere")
        """
    )
    assert stack.up("1").good
    first = {"answer": "fake:index:ask:1", "hidden": "[secret]"}
    assert stack.engine.outputs() == first
    assert stack.up("2").good
    assert stack.engine.outputs() == {**first, "other": "fake:index:ask:1", "key": "[secret]"}
    stack.destroy()
    assert "there is no stack nowhere" in stack.preview("3").text
