"""Reading safetensors: right values from good files, one clear error from any bad one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral.models.errors import FormatError
from corral.models.safetensors import read_safetensors
from support.tiny_bert import random_tensors, safetensors_bytes

GOOD = safetensors_bytes({name: random_tensors()[name] for name in ("pooler.dense.weight", "pooler.dense.bias")})

shared_tmp_path = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)


def written(path: Path, content: bytes) -> Path:
    file = path / "model.safetensors"
    file.unlink(missing_ok=True)  # a new file: an older one may still be mapped
    file.write_bytes(content)
    return file


def with_header(header: Any, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def entry(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_tensors_come_back_as_they_were_written(tmp_path: Path) -> None:
    tensors = random_tensors()
    loaded = read_safetensors(written(tmp_path, safetensors_bytes(tensors)))
    assert list(loaded) == list(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(loaded[name], tensor)
        assert loaded[name].dtype == tensor.dtype


def test_bfloat16_is_widened_to_float32(tmp_path: Path) -> None:
    upper_halves = np.array([0x3F80, 0xC000, 0x0000], dtype=np.uint16)  # 1, -2, 0
    loaded = read_safetensors(written(tmp_path, safetensors_bytes({"x": upper_halves})))
    assert loaded["x"].dtype == np.float32
    assert loaded["x"].tolist() == [1.0, -2.0, 0.0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "too few"),
        (b"\x00" * 7, "too few"),
        ((2**63).to_bytes(8, "little") + b"{}", "header of 9223372036854775808 bytes in a file of 10"),
        (with_header(b"{" * 3000), "not JSON"),
        (with_header(b"\xff\xfe"), "not JSON"),
        (with_header([1]), "not a JSON object"),
        (with_header({"x": 1}), "lacks dtype"),
        (with_header({"x": {"dtype": "F32"}}), "lacks dtype"),
        (with_header({"x": entry(dtype="F8_E4M3")}, b"1234"), "has dtype 'F8_E4M3'"),
        (with_header({"x": entry(dtype=["F32"])}, b"1234"), "has dtype"),
        (with_header({"x": entry(shape=[-1])}, b"1234"), "whole numbers"),
        (with_header({"x": entry(shape=[1.0])}, b"1234"), "whole numbers"),
        (with_header({"x": entry(shape=[2])}, b"1234"), "needs 8 bytes but has 4"),
        (with_header({"x": entry(offsets=[0, 4])}, b"123"), "cover bytes 0 to 4 of 3"),
        (with_header({"x": entry()}, b"12345"), "cover bytes 0 to 4 of 5"),
        (with_header({"x": entry(), "y": entry(offsets=[8, 12])}, b"x" * 12), "starts at byte 8, not at 4"),
        (with_header({"x": entry(), "y": entry()}, b"1234"), "starts at byte 0, not at 4"),
    ],
)
def test_a_bad_file_says_what_is_wrong_with_it(tmp_path: Path, content: bytes, says: str) -> None:
    file = written(tmp_path, content)
    with pytest.raises(FormatError, match=r"model\.safetensors") as caught:
        read_safetensors(file)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@given(length=st.integers(0, len(GOOD) - 1))
@shared_tmp_path
def test_every_truncation_is_noticed(tmp_path: Path, length: int) -> None:
    file = written(tmp_path, GOOD[:length])
    with pytest.raises(FormatError):
        read_safetensors(file)


@given(position=st.integers(0, len(GOOD) - 1), value=st.integers(0, 255))
@shared_tmp_path
def test_a_flipped_byte_gives_an_error_or_tensors_never_a_crash(tmp_path: Path, position: int, value: int) -> None:
    file = written(tmp_path, GOOD[:position] + bytes([value]) + GOOD[position + 1 :])
    try:
        loaded = read_safetensors(file)
    except FormatError:
        return
    assert sum(tensor.nbytes for tensor in loaded.values()) <= 2 * len(GOOD)
