"""llama-server's own memory table: read from recorded output, and its process ended in every case."""

import os
from pathlib import Path

import pytest

from corral.planner.estimate_server import ServerShape
from corral.planner.fit_table import ConfirmError, DeviceRow, confirm, flags, parse_table
from support.waiting import wait_until

# Recorded: llama-server b11434, CPU only, SmolLM2, -c 4096 -np 2.
HOST_ONLY = """\
0.00.005.359 I common_params_fit_impl: getting device memory data for initial parameters:
0.00.171.039 I common_memory_breakdown_print: | memory breakdown [MiB] | total   free    self   model   context   compute    unaccounted |
0.00.171.066 I common_memory_breakdown_print: |   - Host               |                  198 =    92 +      90 +      16                |
0.00.184.526 I common_params_fit_impl: projected to use 198 MiB of host memory vs. 24105 MiB of total host memory
"""  # noqa: E501  # recorded lines
# Not recorded (no GPU here): written from the format in common/fit.cpp.
WITH_GPUS = """\
common_memory_breakdown_print: | memory breakdown [MiB]  | total   free     self   model   context   compute    unaccounted |
common_memory_breakdown_print: |   - CUDA0 (P104-100)    |  8117 = 7980 + (6285 =  5115 +    1088 +      82) +        -148 |
common_memory_breakdown_print: |   - CUDA1 (P104-100)    |  8117 = 8001 + (   0 =     0 +       0 +       0) +         116 |
common_memory_breakdown_print: |   - Host                |                  352 =   344 +       0 +       8                |
"""  # noqa: E501
SECOND = HOST_ONLY.replace("198 =    92", "999 =   893")


def test_the_recorded_table_is_read() -> None:
    assert parse_table(HOST_ONLY.splitlines()) == (DeviceRow("Host", None, None, 92, 90, 16),)


def test_each_gpu_has_a_row() -> None:
    rows = parse_table(WITH_GPUS.splitlines())
    assert rows == (
        DeviceRow("CUDA0 (P104-100)", 8117, 7980, 5115, 1088, 82),
        DeviceRow("CUDA1 (P104-100)", 8117, 8001, 0, 0, 0),
        DeviceRow("Host", None, None, 344, 0, 8),
    )
    assert [row.host for row in rows] == [False, False, True]


def test_only_the_first_table_counts() -> None:
    assert parse_table((HOST_ONLY + SECOND).splitlines())[0].model_mib == 92


def test_a_log_without_a_table_has_no_rows() -> None:
    assert parse_table(["srv  load_model: loading model"]) == ()


def test_the_settings_become_flags() -> None:
    server = ServerShape(context=4096, slots=2, type_k="q8_0", gpu_layers=33, kv_unified=True, mode="rerank")
    words = " ".join(flags(Path("m.gguf"), server))
    for expected in ("--ctx-size 4096 --parallel 2", "--cache-type-k q8_0", "--n-gpu-layers 33", "--kv-unified"):
        assert expected in words
    assert words.startswith("--model m.gguf --host 127.0.0.1 --port 0 ")
    assert words.endswith("--reranking")


def script(folder: Path, body: str) -> Path:
    path = folder / "llama-server"
    path.write_text(f'#!/bin/sh\necho $$ > "{folder}/pid"\n{body}\n')
    path.chmod(0o755)
    return path


def assert_gone(folder: Path) -> None:
    pid = int((folder / "pid").read_text())

    def gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    wait_until(gone, 5, f"process {pid} to be gone")


async def test_it_is_stopped_as_soon_as_the_table_is_there(tmp_path: Path) -> None:
    (tmp_path / "table").write_text(HOST_ONLY)
    program = script(tmp_path, f'cat "{tmp_path}/table"\nexec sleep 600')
    rows = await confirm([program], Path("m.gguf"), ServerShape(), deadline_s=20)
    assert rows[0].context_mib == 90
    assert_gone(tmp_path)


async def test_one_that_hangs_is_stopped_at_the_deadline(tmp_path: Path) -> None:
    program = script(tmp_path, "exec sleep 600")
    with pytest.raises(ConfirmError, match=r"printed no memory table in 2 s; use a llama-server of b9603 or newer"):
        await confirm([program], Path("m.gguf"), ServerShape(), deadline_s=2)
    assert_gone(tmp_path)


async def test_its_last_words_are_shown_if_it_ends_first(tmp_path: Path) -> None:
    program = script(tmp_path, "echo '0.00.01 E load: failed to load model'\nexit 1")
    with pytest.raises(ConfirmError, match=r"ended without a memory table \(load: failed to load model\)"):
        await confirm([program], Path("m.gguf"), ServerShape(), deadline_s=20)


async def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfirmError, match=r"cannot be started \(No such file or directory\); set LLAMA_SERVER"):
        await confirm([tmp_path / "none"], Path("m.gguf"), ServerShape())


async def test_llama_server_does_not_see_its_own_variables(tmp_path: Path) -> None:
    program = script(tmp_path, 'echo "x LLAMA_ARG_CTX_SIZE=$LLAMA_ARG_CTX_SIZE."')
    environ = {"PATH": os.environ["PATH"], "LLAMA_ARG_CTX_SIZE": "64"}
    with pytest.raises(ConfirmError, match=r"LLAMA_ARG_CTX_SIZE=\."):
        await confirm([program], Path("m.gguf"), ServerShape(), deadline_s=20, environ=environ)
