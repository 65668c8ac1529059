"""The reference box: eight cards of 8 GB, three and four chat servers with an embedding server beside each."""

from pathlib import Path

from corral.farm import load_farm
from corral.plan.edits import apply
from corral.plan.figures import Edit
from corral.plan.plan import plan
from corral.planner.memory import DEFAULT_MARGIN_BYTES, MIB
from support.plan_farms import REFERENCE, codes, edited_file, reference_known

CONTEXT = ("models", "llama", "context")


def test_three_and_four_chat_and_seven_embedding_servers_fit() -> None:
    planned = plan(load_farm(REFERENCE).value, reference_known())
    assert planned.fits
    assert codes(planned, "warning") == []
    serving = [gpu for gpu in planned.gpus if gpu.index < 7]
    assert [len(gpu.servers) for gpu in serving] == [2] * 7
    for gpu in serving:
        assert gpu.memory_bytes == 8192 * MIB
        assert gpu.left_bytes // MIB == 1251
        assert gpu.left_bytes >= DEFAULT_MARGIN_BYTES
    (box,) = (host for host in planned.hosts if host.name == "gpu-box")
    assert box.limit_bytes == (7 * 2048 + 7 * 512 + 4096) * MIB
    assert (box.threads, box.host.cores, box.power_w) == (21, 2, 8 * 90)


def test_the_prompt_cache_is_what_the_container_leaves() -> None:
    planned = plan(load_farm(REFERENCE).value, reference_known())
    for server in planned.servers:
        if server.server.model_name == "llama":
            assert server.cache_ram_mib == 1470
            assert server.host_bytes <= 2048 * MIB
        elif server.server.model_name == "nomic-embed":
            assert server.cache_ram_mib == 0


def test_a_doubled_context_is_refused_with_the_largest_that_fits(tmp_path: Path) -> None:
    doubled = apply(load_farm(REFERENCE).value, [Edit(CONTEXT, 32_768)])
    refused = plan(doubled, reference_known())
    (error,) = (finding for finding in refused.findings if finding.level == "error")
    assert str(error) == (
        "gpu-box GPU 0-2: 8,095 of 8,192 MiB are needed (llama-1 7,697 + nomic-embed-1 399): "
        "that leaves 97, less than the margin of 512; set context of llama to 26624 (the largest that fits), "
        "or set kv_cache of llama to {k: q4_0, v: q4_0}, or set gpu_layers of llama to 30"
    )
    for mend in error.mends:
        assert plan(edited_file(REFERENCE, mend.edits, tmp_path / "corral.yaml"), reference_known()).fits
    (largest,) = error.mends[0].edits
    assert isinstance(largest.value, int)
    assert not plan(apply(doubled, [Edit(CONTEXT, largest.value + 256)]), reference_known()).fits


def test_a_smaller_margin_lets_it_fit() -> None:
    doubled = apply(load_farm(REFERENCE).value, [Edit(CONTEXT, 32_768)])
    assert plan(doubled, reference_known(), 97 * MIB).fits
    assert not plan(doubled, reference_known(), 98 * MIB).fits
