"""What is offered for a GPU that is too full: each change, made in the file, is enough."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from corral.farm import FarmFile
from corral.plan.edits import apply
from corral.plan.figures import Edit, Plan
from support.plan_farms import codes, found, one_gpu_farm, planned

BIG = {"context": 32_768, "slots": 16}


def texts(plan: Plan) -> list[str]:
    return [mend.text for mend in found(plan, "gpu-full").mends]


def test_one_change_each_is_offered() -> None:
    plan = planned(one_gpu_farm(model=BIG))
    assert codes(plan) == ["gpu-full"]
    said = " ".join(texts(plan))
    for setting in ("context", "slots", "kv_cache", "gpu_layers"):
        assert f"set {setting} of m to " in said


def test_a_mend_is_for_all_full_gpus_of_the_model() -> None:
    farm = one_gpu_farm(
        gpus=(700, 1024), model=BIG, servers=[{"gpus": [0], "ports": 8080}, {"gpus": [1], "ports": 8081}]
    )  # fmt: skip
    full = [finding for finding in planned(farm).findings if finding.code == "gpu-full"]
    assert [finding.where for finding in full] == ["box GPU 0", "box GPU 1"]
    assert full[0].mends[0] == full[1].mends[0]
    assert planned(apply(farm, full[0].mends[0].edits)).fits


def test_two_servers_of_a_model_on_a_gpu_share_what_is_there() -> None:
    farm = one_gpu_farm(model=BIG, servers=[{"gpus": [0], "ports": 8080}, {"gpus": [0], "ports": 8081}])
    mends = found(planned(farm), "gpu-full").mends
    assert mends
    for mend in mends:
        assert planned(apply(farm, mend.edits)).fits


def test_a_server_is_moved_to_a_gpu_with_room() -> None:
    servers = [{"gpus": [0], "ports": 8080}, {"model": "other", "gpus": [0], "ports": 8081}]
    farm = one_gpu_farm(
        gpus=(700, 400, 800), model={"context": 16_384, "slots": 4}, servers=servers, more_models={"other": {}}
    )  # fmt: skip
    plan = planned(farm)
    assert texts(plan)[-1] == "move other-1 to GPU 1"
    move = found(plan, "gpu-full").mends[-1]
    assert move.edits == (Edit(("servers", 1, "gpus"), (1,)),)
    assert planned(apply(farm, move.edits)).fits


def test_no_server_is_moved_beside_one_whose_memory_is_not_known() -> None:
    farm = one_gpu_farm(
        gpus=(700, 800), model={"context": 16_384, "slots": 4},
        servers=[
            {"gpus": [0], "ports": 8080}, {"model": "other", "gpus": [0], "ports": 8081},
            {"model": "images", "gpus": [1], "ports": 8082},
        ],
        more_models={"other": {}, "images": {"mode": "image", "image": "localai/localai:v3", "source": None}},
    )  # fmt: skip
    plan = planned(farm)
    assert not any("move" in text for text in texts(plan))


def test_fewer_layers_are_not_offered_where_the_host_has_no_room_for_them() -> None:
    model = {**BIG, "memory_mib": 500, "cache_ram_mib": 0}
    assert not any("gpu_layers" in text for text in texts(planned(one_gpu_farm(model=model))))
    assert any("gpu_layers" in text for text in texts(planned(one_gpu_farm(model={**model, "memory_mib": 4096}))))


def test_where_nothing_helps_the_size_that_would_is_told() -> None:
    plan = planned(one_gpu_farm(gpus=(256,)))
    finding = found(plan, "gpu-full")
    assert finding.mends == ()
    needed = int(finding.mend.removeprefix("take a smaller model or quantisation, or a GPU of ").split()[0])
    assert planned(one_gpu_farm(gpus=(needed,))).fits
    assert not planned(one_gpu_farm(gpus=(needed - 1,))).fits


def models() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "context": st.integers(32, 80_000),
            "slots": st.integers(1, 8),
            "kv_cache": st.sampled_from([{"k": "f16", "v": "f16"}, {"k": "q8_0", "v": "q8_0"}, {"k": "f32"}]),
            "gpu_layers": st.sampled_from(["all", 0, 2, 5]),
            "memory_mib": st.none() | st.integers(200, 8000),
            "cache_ram_mib": st.none() | st.integers(0, 2000),
        }
    )


@st.composite
def farms(draw: st.DrawFn) -> FarmFile:
    sizes = draw(st.lists(st.integers(256, 6000), min_size=1, max_size=4))
    servers = []
    for number in range(draw(st.integers(1, 4))):
        cards = draw(st.lists(st.integers(0, len(sizes) - 1), unique=True, max_size=len(sizes)))
        ports = [8080 + 10 * number + place for place in range(max(1, len(cards)))]
        servers.append({"model": draw(st.sampled_from(["m", "n"])), "gpus": cards, "ports": ports})
    host = draw(st.sampled_from([{}, {"memory_mib": 4096}, {"memory_mib": 16_384, "cores": 4}]))
    return one_gpu_farm(
        gpus=sizes, model=draw(models()), more_models={"n": draw(models())}, servers=servers, host=host
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(farms())
def test_every_mend_offered_mends_and_breaks_nothing(farm: FarmFile) -> None:
    plan = planned(farm)
    before = {(finding.code, finding.where) for finding in plan.findings if finding.level == "error"}
    for finding in plan.findings:
        for mend in finding.mends:
            edited = FarmFile.model_validate(apply(farm, mend.edits).model_dump())
            after = [one for one in planned(edited).findings if one.level == "error"]
            assert (finding.code, finding.where) not in {(one.code, one.where) for one in after}, mend
            if finding.code == "gpu-full":
                assert len(after) < len(before), mend


@settings(max_examples=60, deadline=None)
@given(farms(), st.integers(1, 4000), st.integers(1, 4000))
def test_more_memory_never_makes_a_farm_unfit(farm: FarmFile, more_gpu: int, more_host: int) -> None:
    plan = planned(farm)
    host = farm.hosts["box"]
    gpus = tuple(gpu.model_copy(update={"memory_mib": gpu.memory_mib + more_gpu}) for gpu in host.known_gpus)
    edits = [Edit(("hosts", "box", "gpus"), gpus)]
    if host.memory_mib is not None:
        edits.append(Edit(("hosts", "box", "memory_mib"), host.memory_mib + more_host))
    larger = planned(apply(farm, edits))
    assert len(codes(larger)) <= len(codes(plan))
    assert larger.fits or not plan.fits
