"""What a plan says of containers, host memory, threads, power and CUDA: each finding, its figure and its mend."""

from typing import Any

import pytest

from corral.farm import servers_of
from corral.plan.edits import apply
from corral.plan.figures import Plan
from corral.plan.known import Known
from corral.plan.plan import plan
from corral.planner.memory import MIB
from corral.render import memory
from support.plan_farms import codes, found, one_gpu_farm, planned

CPU = [{"count": 2, "ports": "8080-8081"}]
GPU = {"memory_mib": 8192, "power_limit_w": 90}


def on_cpu(model: dict[str, Any] | None = None, host: dict[str, Any] | None = None) -> Plan:
    return planned(one_gpu_farm(gpus=(), model=model, host=host, servers=CPU))


def test_a_server_on_the_cpu_takes_host_memory_only() -> None:
    (server, _) = on_cpu({"cache_ram_mib": 100}).servers
    assert server.gpu_bytes == 0
    assert server.estimate is not None
    assert server.mapped_bytes == server.estimate.host.mapped > 40 * MIB
    assert server.host_bytes == server.fixed_bytes + 100 * MIB


def test_without_limit_and_setting_the_prompt_cache_is_gpu_servers_own() -> None:
    assert on_cpu().servers[0].cache_ram_mib == 512
    assert planned(one_gpu_farm(model={"mode": "rerank"})).servers[0].cache_ram_mib == 0


def test_a_container_that_is_too_small_is_refused_with_the_size_that_is_enough() -> None:
    plan = planned(one_gpu_farm(model={"memory_mib": 200}))
    finding = found(plan, "container-small")
    assert (finding.level, finding.where) == ("error", "m-1")
    assert "200" in finding.what
    assert plan.servers[0].cache_ram_mib == 0
    (mend,) = finding.mends
    enough = mend.edits[0].value
    assert isinstance(enough, int)
    assert planned(one_gpu_farm(model={"memory_mib": enough})).fits
    assert not planned(one_gpu_farm(model={"memory_mib": enough - 1})).fits


def test_a_prompt_cache_over_its_container_is_said_to_be_lowered() -> None:
    plan = planned(one_gpu_farm(model={"memory_mib": 1024, "cache_ram_mib": 8192}))
    finding = found(plan, "cache-lowered")
    assert plan.fits
    assert "a prompt cache of 8,192 MiB is more than the container of 1,024 leaves: it gets 446" in finding.what
    assert plan.servers[0].cache_ram_mib == 446
    assert codes(planned(apply(plan.farm, finding.mends[0].edits)), "warning") == []


def test_the_cache_that_is_rendered_is_the_cache_that_is_planned() -> None:
    layers = {
        "gpu_layers": 0,
        "memory_mib": 1024,
        "context": 131_072,
    }  # the KV cache lies on the host, which rendering knows nothing of
    farm = one_gpu_farm(model=layers)
    plan = planned(farm)
    assert plan.servers[0].cache_ram_mib == memory.cache_ram_mib(servers_of(farm)[0])
    finding = found(plan, "container-small")
    assert [edit.path[-1] for edit in finding.mends[0].edits] == ["cache_ram_mib"]
    assert [edit.path[-1] for edit in finding.mends[1].edits] == ["memory_mib", "cache_ram_mib"]
    for mend in finding.mends:
        assert "container-small" not in codes(planned(apply(farm, mend.edits)))


def test_a_limit_of_the_placement_goes_before_the_models() -> None:
    farm = one_gpu_farm(
        model={"memory_mib": 4096}, servers=[{"gpus": [0], "ports": 8080, "memory_mib": 200}]
    )  # fmt: skip
    finding = found(planned(farm), "container-small")
    assert finding.path == ("servers", 0, "memory_mib")
    assert planned(apply(farm, finding.mends[-1].edits)).fits


@pytest.mark.parametrize("model", [{"memory_mib": 220, "cache_ram_mib": 0}, {"memory_mib": 250}])
def test_mapped_weights_that_a_container_cannot_hold_are_a_warning(model: dict[str, Any]) -> None:
    plan = on_cpu(model)
    assert plan.fits
    finding = found(plan, "weights-dropped")
    assert "read from the disk again and again" in finding.what
    assert codes(planned(apply(plan.farm, finding.mends[0].edits)), "warning") == []


def test_processes_have_no_container() -> None:
    plan = on_cpu({"memory_mib": 64}, {"runtime": "processes", "memory_mib": 16_384})
    assert plan.fits
    assert plan.servers[0].cache_ram_mib == 512


def test_a_host_with_too_little_memory_is_refused_with_prompt_caches_that_fit() -> None:
    plan = on_cpu({"cache_ram_mib": 4000}, {"memory_mib": 8192})
    finding = found(plan, "host-full")
    assert finding.level == "error"
    assert planned(apply(plan.farm, finding.mends[0].edits)).fits
    more = [edit.__class__(edit.path, int(str(edit.value)) + 1) for edit in finding.mends[0].edits]
    assert not planned(apply(plan.farm, more)).fits


def test_a_host_that_is_too_small_without_any_prompt_cache_says_by_how_much() -> None:
    finding = found(on_cpu({"cache_ram_mib": 0}, {"memory_mib": 2048}), "host-full")
    assert finding.mends == ()
    assert finding.mend.startswith("take away servers")


def test_limits_that_do_not_fit_together_are_a_warning() -> None:
    plan = on_cpu({"memory_mib": 8192, "cache_ram_mib": 0}, {"memory_mib": 16_384})
    assert plan.fits
    assert found(plan, "host-limits").level == "warning"


def test_the_gate_counts_where_it_runs() -> None:
    host = on_cpu(host={"memory_mib": 16_384}).hosts[0]
    assert host.gate_bytes > 2048 * MIB
    assert host.need_bytes == host.gate_bytes + sum(server.host_bytes for server in host.servers)


def test_threads_over_the_cores_are_a_warning_where_layers_run_on_the_cpu() -> None:
    host = {"cores": 4, "memory_mib": 16_384}
    plan = on_cpu({"threads": 4}, host)
    finding = found(plan, "threads")
    assert finding.mend == "set threads of m to 2"
    assert "threads" not in codes(planned(apply(plan.farm, finding.mends[0].edits)), "warning")
    on_gpus = one_gpu_farm(
        gpus=(4096, 4096), model={"threads": 4}, host=host, servers=[{"gpus": "all", "ports": "8080-8081"}]
    )
    assert codes(planned(on_gpus), "warning") == []


def test_without_threads_the_cores_are_shared() -> None:
    assert [server.threads for server in on_cpu(host={"cores": 5}).servers] == [2, 2]
    assert [server.threads for server in on_cpu(host={"cores": 1}).servers] == [1, 1]


def test_power_limits_over_the_budget_are_refused() -> None:
    for budget, fits in ((180, True), (179, False)):
        plan = planned(one_gpu_farm(gpus=(), host={"gpus": [GPU, GPU], "power_budget_w": budget}))
        assert plan.fits is fits
    assert "180 W" in found(plan, "power").what


def test_a_budget_without_limits_cannot_be_checked() -> None:
    plan = planned(one_gpu_farm(gpus=(), host={"gpus": [GPU, {"memory_mib": 8192}], "power_budget_w": 200}))
    assert plan.fits
    assert found(plan, "power-unknown").what.startswith("GPU 1 has no power_limit_w")


@pytest.mark.parametrize(
    ("image", "capability", "level"),
    [
        ("ghcr.io/ggml-org/llama.cpp:server-cuda13-b9603", "6.1", "error"),
        ("ghcr.io/ggml-org/llama.cpp:server-cuda13-b9603", "7.5", None),
        ("ghcr.io/ggml-org/llama.cpp:server-cuda12-b9603", "6.1", None),
        ("ghcr.io/ggml-org/llama.cpp:server-cuda12-b9603", "3.5", "error"),
    ],
)
def test_an_image_whose_cuda_is_too_new_for_a_card_is_refused(image: str, capability: str, level: str | None) -> None:
    card = {"memory_mib": 8192, "compute_capability": capability}
    plan = planned(one_gpu_farm(gpus=(), host={"gpus": [card], "llama_server_base": image}))
    assert [finding.level for finding in plan.findings if finding.code == "cuda"] == ([level] if level else [])


def test_an_old_card_without_an_image_is_noted() -> None:
    card = {"memory_mib": 8192, "compute_capability": "6.1"}
    plan = planned(one_gpu_farm(gpus=(), host={"gpus": [card]}))
    assert "CUDA 12" in found(plan, "cuda-12").what


def test_a_model_without_header_is_an_error_unless_allowed() -> None:
    farm = one_gpu_farm()
    refused = plan(farm, Known({}))
    assert codes(refused) == ["unknown"]
    assert found(refused, "unknown").where == "m-1"
    allowed = plan(farm, Known({}), allow_unknown=True)
    assert allowed.fits
    assert codes(allowed, "warning") == ["unknown"]


def test_an_image_servers_memory_is_its_limit_and_its_gpu_is_left_to_it() -> None:
    images = {"mode": "image", "image": "localai/localai:v3", "source": None, "memory_mib": 3000}
    farm = one_gpu_farm(
        gpus=(4096,), servers=[{"model": "images", "gpus": [0], "ports": 8080}], more_models={"images": images}
    )  # fmt: skip
    plan = planned(farm)
    assert plan.fits
    assert plan.servers[0].host_bytes == 3000 * MIB
    assert "4,032 MiB are there" in found(plan, "gpu-images").what


def test_flags_that_change_memory_are_told() -> None:
    plan = planned(
        one_gpu_farm(model={"extra_args": ["--override-tensor=exps=CPU", "--flash-attn off", "--no-warmup"]})
    )
    assert found(plan, "flags").what == "what --override-tensor changes is not planned"
    (server,) = plan.servers
    assert server.shape is not None
    assert server.shape.flash_attention == "off"


def test_settings_that_contradict_one_another_are_not_planned() -> None:
    farm = one_gpu_farm(model={"extra_args": ["-fa off"], "kv_cache": {"v": "q8_0"}})
    assert "needs flash attention, which is off" in found(planned(farm), "unknown").what


def test_a_context_over_the_training_is_told() -> None:
    plan = planned(one_gpu_farm(model={"context": 40_000}, gpus=(8192,)))
    assert found(plan, "context-long").mend == "set it to 32768 or less"
    stretched = planned(one_gpu_farm(model={"context": 40_000, "extra_args": ["--rope-scaling yarn"]}, gpus=(8192,)))
    assert codes(stretched, "warning") == []
