"""Headers of local files: what is read, how fast, and what a bad file is told."""

import importlib
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.gguf.errors import GgufError
from corral.gguf.files import read_file
from corral.gguf.header import SkippedArray
from corral.gguf.parser import IncompleteError, parse
from corral.models.catalogue import CHAT
from support.gguf_files import Model, header_bytes, write
from support.gguf_models import Sizes, llama_31_8b_q5_k_m, nomic_embed_v15_q8_0, small, tokens

LLAMA_3_MERGES = 280_147
WHOLE = header_bytes(small(Sizes(layers=1, vocabulary=8)))


def test_a_header_says_what_the_model_is(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", small(Sizes(layers=2, vocabulary=2000, type="q4_0")))
    header = read_file(path)
    assert (header.architecture, header.name) == ("llama", "small llama")
    assert header.find("block_count") == 2
    assert header.metadata["tokenizer.ggml.tokens"] == SkippedArray(2000)
    embedding = header.tensors[0]
    assert (embedding.name, embedding.shape, embedding.type) == ("token_embd.weight", (512, 2000), "q4_0")
    assert embedding.bytes == 512 * 2000 // 32 * 18
    assert header.file_bytes == path.stat().st_size


def test_a_real_model_reads_as_with_the_reference_reader(tmp_path: Path) -> None:
    path = CHAT.location(tmp_path)
    reference: Any = importlib.import_module("gguf").GGUFReader(path)
    header = read_file(path)
    assert {tensor.name: (tensor.shape, tensor.bytes) for tensor in header.tensors} == {
        tensor.name: (tuple(int(length) for length in tensor.shape), int(tensor.n_bytes))
        for tensor in reference.tensors
    }
    assert set(header.metadata) == {key for key in reference.fields if not key.startswith("GGUF.")}
    assert header.find("context_length") == reference.fields["llama.context_length"].contents()


def test_version_2_is_read_too(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", small(Sizes(layers=1)), version=2)
    assert read_file(path).architecture == "llama"


def test_the_reference_models_have_their_known_sizes(tmp_path: Path) -> None:
    llama = read_file(write(tmp_path / "llama.gguf", llama_31_8b_q5_k_m()))
    assert llama.file_bytes == pytest.approx(5.733e9, rel=0.002)  # 5,732,987,040 with the real vocabulary's words
    nomic = read_file(write(tmp_path / "nomic.gguf", nomic_embed_v15_q8_0()))
    assert nomic.file_bytes == pytest.approx(146e6, rel=0.005)


def test_a_vocabulary_of_llama_3s_size_takes_under_100_ms(tmp_path: Path) -> None:
    model = llama_31_8b_q5_k_m()
    merges = [f"t{number} t{number + 1}" for number in range(LLAMA_3_MERGES)]
    path = write(tmp_path / "model.gguf", Model(model.metadata, model.tensors, model.tokens, merges))
    seconds = []
    for _ in range(5):
        started = time.process_time()
        header = read_file(path)
        seconds.append(time.process_time() - started)
    assert header.metadata["tokenizer.ggml.merges"] == SkippedArray(LLAMA_3_MERGES)
    assert min(seconds) < 0.1


def test_a_split_model_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    model = small(Sizes(layers=2))
    whole = read_file(write(tmp_path / "whole.gguf", model))
    _split(tmp_path, model, count=2)
    for part in (1, 2):
        header = read_file(tmp_path / f"m-{part:05d}-of-00002.gguf")
        assert header.tensors == whole.tensors
        assert header.find("block_count") == 2
        assert header.file_bytes == sum(path.stat().st_size for path in tmp_path.glob("m-*.gguf"))


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    _split(tmp_path, small(Sizes(layers=2)), count=2)
    (tmp_path / "m-00002-of-00002.gguf").unlink()
    with pytest.raises(GgufError, match=r"m-00002-of-00002\.gguf does not exist; put the model there"):
        read_file(tmp_path / "m-00001-of-00002.gguf")


def test_a_renamed_part_is_not_taken_for_the_model(tmp_path: Path) -> None:
    _split(tmp_path, small(Sizes(layers=2)), count=2)
    (tmp_path / "m-00001-of-00002.gguf").rename(tmp_path / "model.gguf")
    with pytest.raises(GgufError, match=r"one of 2 parts, 1 were found; put all parts into one place"):
        read_file(tmp_path / "model.gguf")


def _split(folder: Path, model: Model, count: int) -> None:
    half = len(model.tensors) // 2
    parts = (model.tensors[:half], model.tensors[half:])
    for number, tensors in enumerate(parts, start=1):
        metadata = {**(model.metadata if number == 1 else {}), "split.no": number - 1, "split.count": count}
        words = model.tokens if number == 1 else ()
        write(folder / f"m-{number:05d}-of-{count:05d}.gguf", Model(metadata, tensors, words))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; copy or download it again"),
        (b"<html>not found</html>", "is no GGUF file .*; give a .gguf model"),
        (b"GG", r"is cut short \(its header is not whole\); copy or download it again"),
        (WHOLE[:100], r"is cut short \(its header is not whole\)"),
        (WHOLE + bytes(1000), r"is cut short \([\d,]+ of [\d,]+ bytes\); copy or download it again"),
        (b"GGUF" + struct.pack("<I", 1), "is GGUF version 1; llama.cpp reads versions 2 and 3"),
        (b"GGUF" + struct.pack(">I", 3), "is big-endian; "),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 2**60), r"is corrupt \(a count of [\d,]+\)"),
        (b"GGUF" + struct.pack("<IQQQ1sI", 3, 0, 1, 1, b"k", 99), r"is corrupt \(a value of unknown type 99\)"),
    ],
)
def test_a_bad_file_is_told_what_is_wrong(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(GgufError, match=message) as caught:
        read_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_tensor_type_is_named(tmp_path: Path) -> None:
    content = bytearray(WHOLE)
    at = content.index(b"token_embd.weight") + len(b"token_embd.weight") + 4 + 2 * 8
    content[at : at + 4] = struct.pack("<I", 77)
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(GgufError, match=r"tensor token_embd\.weight has type 77, which is unknown here; convert"):
        read_file(path)


def test_a_folder_or_nothing_at_the_path_is_told(tmp_path: Path) -> None:
    with pytest.raises(GgufError, match=r"is a folder; give the \.gguf file in it"):
        read_file(tmp_path)
    with pytest.raises(GgufError, match=r"does not exist; put the model there or correct the path"):
        read_file(tmp_path / "no.gguf")


def test_a_file_without_an_architecture_is_no_model(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", Model({"general.name": "x"}, []))
    with pytest.raises(GgufError, match="does not say its architecture"):
        read_file(path)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damage_is_refused_and_never_crashes(data: st.DataObject) -> None:
    damaged = bytearray(WHOLE[: data.draw(st.integers(0, len(WHOLE)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse(bytes(damaged), "model.gguf")
    except (GgufError, IncompleteError):
        return


def test_a_small_vocabulary_is_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", small(Sizes(layers=1, vocabulary=100)))
    assert read_file(path).metadata["tokenizer.ggml.tokens"] == tuple(tokens(100))
