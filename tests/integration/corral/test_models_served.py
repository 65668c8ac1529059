"""The real packaged models, made ready and served by a real llama-server."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from corral.models.catalogue import EMBED, package_dir
from corral.models.files import exclusively
from corral.models.preparation import LOCK_NAME
from support.bert_reference import BertReference
from support.embedding_server import embedding_server

pytestmark = pytest.mark.integration

PASSWORD, CAT, MARKETS = 0, 1, 2
SENTENCES = [
    "How do I reset my password?",
    "The cat sits on the mat.",
    "Stock markets fell sharply on Tuesday.",
    "Die Katze sitzt auf der Matte \u2013 naïve café Ünïcödé, 東京!",
    "def add(a, b):\n    return a + b",
    "x",
    "GPU memory 24GB; n_ctx=8192, q8_0; it's 100% OK?",
    "antidisestablishmentarianism " * 12 + "and a long tail of plain words " * 20,
]
PARAPHRASES = {
    "I forgot my login credentials, what now?": PASSWORD,
    "A kitten is resting upon a rug.": CAT,
    "Shares plunged yesterday.": MARKETS,
}


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def prepared(models_dir: Path) -> dict[str, Path]:
    """The models as the farm gets them: by running the one-shot."""
    command = [sys.executable, "-m", "corral.models", "prepare", "--into", str(models_dir), "--json"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    assert "embed: all-MiniLM-L6-v2.f16.gguf is missing; converting it" in result.stderr
    return {name: Path(path) for name, path in json.loads(result.stdout).items()}


@pytest.fixture(scope="module")
def server(prepared: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with embedding_server(prepared["embed"], tmp_path_factory.mktemp("log") / "llama-server.log") as url:
        yield url


def embed(url: str, texts: list[str]) -> NDArray[np.float64]:
    answer = httpx.post(f"{url}/v1/embeddings", json={"model": "embed", "input": texts}, timeout=60)
    answer.raise_for_status()
    vectors = np.array([item["embedding"] for item in answer.json()["data"]])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_served_embeddings_match_a_reference_of_the_same_weights(server: str) -> None:
    reference = BertReference(package_dir(EMBED) / "model")
    served = embed(server, SENTENCES)
    assert served.shape == (len(SENTENCES), EMBED.dimensions)
    cosines = [float(vector @ reference.embed(text)) for vector, text in zip(served, SENTENCES, strict=True)]
    print("cosine to the reference, per sentence:", [round(cosine, 7) for cosine in cosines])
    assert min(cosines) >= 0.9999


def test_the_nearest_neighbour_of_a_paraphrase_is_what_it_paraphrases(server: str) -> None:
    nearest = (embed(server, list(PARAPHRASES)) @ embed(server, SENTENCES).T).argmax(axis=1)
    assert nearest.tolist() == list(PARAPHRASES.values())


def test_the_chat_model_is_used_where_its_package_has_it(prepared: dict[str, Path], models_dir: Path) -> None:
    assert prepared["chat"].read_bytes()[:4] == b"GGUF"
    assert models_dir not in prepared["chat"].parents
    assert [path.name for path in models_dir.glob("*.gguf")] == ["all-MiniLM-L6-v2.f16.gguf"]


def test_verify_finds_every_file_right_and_a_flipped_bit_wrong(prepared: dict[str, Path], tmp_path: Path) -> None:
    good = run("verify", prepared["embed"].parent)
    assert good.returncode == 0, good.stderr
    assert good.stdout.count(" is right") == 6

    content = bytearray(prepared["embed"].read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / prepared["embed"].name).write_bytes(content)
    bad = run("verify", tmp_path)
    assert bad.returncode == 1
    assert bad.stderr.startswith("error: embed: ")
    assert bad.stderr.count("\n") == 1
    assert f"convert it again: python -m corral.models prepare --into {tmp_path}" in bad.stderr


def test_list_shows_what_is_ready(prepared: dict[str, Path], tmp_path: Path) -> None:
    rows = run("list", prepared["embed"].parent).stdout.splitlines()
    assert [row.split()[-1] for row in rows[1:]] == ["ready", "ready"]
    assert run("list", tmp_path).stdout.splitlines()[-1].split()[-2:] == ["not", "prepared"]


def test_an_impossible_directory_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("prepare", tmp_path / "file")
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def run(verb: str, into: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "corral.models", verb, "--into", str(into)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_termination_unwinds_quietly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "corral.models", "prepare", "--into", str(tmp_path)]
    with (
        exclusively(tmp_path / LOCK_NAME, 1, lambda: None),
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline().startswith("waiting for another process")
        process.terminate()
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (128 + signal.SIGTERM, "")
