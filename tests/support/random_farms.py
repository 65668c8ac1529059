"""Farm files for tests: the examples, short ones from a text, and random valid ones."""

import shlex
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from corral.farm import FarmFile, load_farm
from corral.farm.owned_flags import OWNED_FLAGS

FARMS = Path(__file__).parents[2] / "farms"
TWO_HOSTS = FARMS / "two-hosts.yaml"

HOSTILE = (
    'a"b', "a'b", "${HOME}", "$HOME", "$(id)", "$$", "a: b", "- a", "-a", ":a", "#a", "!!python/object:os.system",
    "&a", "*a", "{a}", "[a]", "%a", "@a", "`id`", "yes", "null", "1e3", "0o17", "a\\nb", "é\u2028b", "..", "~",
    "<<", "=",
)  # fmt: skip
"""Strings that mean something in YAML, in a shell, to compose or to LiteLLM."""


def farm_of(text: str, folder: Path) -> FarmFile:
    """Return the farm that a farm file's text describes."""
    path = folder / "corral.yaml"
    path.write_text(text, encoding="utf-8")
    return load_farm(path).value


def example(name: str) -> FarmFile:
    """Return the farm of an example file."""
    return load_farm(FARMS / f"{name}.yaml").value


def big_farm(servers: int) -> dict[str, Any]:
    """Return a farm file's data with that many servers, eight to a host."""
    cards = [{"memory_mib": 24576}] * 8
    hosts = {
        f"box-{number}": {"address": f"10.{number // 250}.{number % 250}.2", "cores": 16, "gpus": cards}
        for number in range((servers + 7) // 8)
    }
    placements = [
        {"model": "llama", "host": host, "gpus": list(range(8)), "ports": "8080-8087", "name": host} for host in hosts
    ]
    llama = {
        "source": {"hub": "owner/llama", "file": "llama.gguf"},
        "slots": 4,
        "memory_mib": 4096,
        "limits": {"rpm": 60},
    }
    return {
        "hosts": {**hosts, "gate": {"address": "10.255.0.2"}},
        "models": {"llama": llama},
        "servers": placements,
        "proxy": {"host": "gate", "listen": "10.255.0.2"},
        "monitoring": {},
    }


_printable = st.characters(codec="utf-8", exclude_categories=("C", "Z"))
_plain_characters = st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="$`")
_words = st.text(_plain_characters, min_size=1, max_size=12) | st.sampled_from(
    [word for word in HOSTILE if word.isprintable() and "$" not in word and "`" not in word]
)
_suffixes = st.text("abcxyzABC019._-", max_size=8).map(lambda text: f"x{text}" if text else "")
_flags = _words.filter(lambda word: word.split("=", 1)[0] not in OWNED_FLAGS)
_paths = st.text(_printable, min_size=1, max_size=20).map(lambda text: "/data/" + text) | st.sampled_from(
    ["/data/" + text for text in HOSTILE if text.isprintable()]
)
_cache_types = st.sampled_from(["f16", "q8_0", "q4_0"])
_seconds = st.integers(1, 3600) | st.floats(0.5, 3600).map(lambda value: round(value, 2))


@st.composite
def farm_files(draw: st.DrawFn) -> dict[str, Any]:
    """Give the data of a random farm file that is in order and can be rendered."""
    hosts = {f"h{number}": draw(_host(number)) for number in range(draw(st.integers(1, 3)))}
    count = draw(st.integers(1, 4))
    models = {f"m{number}{draw(_suffixes)}": draw(_model(number)) for number in range(count)}
    providers = {f"p{number}": draw(_provider(number)) for number in range(draw(st.integers(0, 2)))}
    servers = draw(_placements(hosts, models))
    placed = {placement["model"] for placement in servers}
    for name in set(models) - placed:
        models[name].pop("limits", None)
        models[name].pop("aliases", None)
    proxy: dict[str, Any] = {"host": draw(st.sampled_from(sorted(hosts))), "port": 4000}
    proxy["caching"] = {"redis": draw(st.booleans())}
    if proxy["caching"]["redis"]:
        proxy["caching"]["answers"] = draw(st.booleans())
    proxy["fallbacks"] = draw(_fallbacks([*models, *providers]))
    data = {"hosts": hosts, "models": models, "servers": servers, "proxy": proxy, "providers": providers}
    if draw(st.booleans()):
        data["monitoring"] = {"scrape_interval_s": draw(st.integers(1, 600))}
    if draw(st.booleans()):
        data["langfuse"] = {"url": "https://traces.example", "content": draw(st.booleans())}
        if draw(st.booleans()):
            data["langfuse"]["host"] = draw(st.sampled_from(sorted(hosts)))
    return data


def as_yaml(data: dict[str, Any]) -> str:
    """Return data as a farm file's text."""
    text: str = yaml.safe_dump(data, allow_unicode=True, sort_keys=False)
    return text


@st.composite
def _host(draw: st.DrawFn, number: int) -> dict[str, Any]:
    gpus = []
    for card in range(draw(st.integers(0, 4))):
        gpu: dict[str, Any] = {"memory_mib": 8192}
        if draw(st.booleans()):
            gpu["uuid"] = f"GPU-{number}000{card}"
        gpus.append(gpu)
    host: dict[str, Any] = {
        "address": draw(st.sampled_from([f"10.0.0.{number + 2}", f"box{number}.lan", "fd00::9"])),
        "gpus": gpus,
    }
    if draw(st.booleans()):
        host["cores"] = draw(st.integers(1, 64))
    if draw(st.booleans()):
        host["cpuset"] = "0-3,7"
    return host


@st.composite
def _model(draw: st.DrawFn, number: int) -> dict[str, Any]:
    mode = draw(st.sampled_from(["chat", "embedding", "rerank", "transcription", "image"]))
    model: dict[str, Any] = {"mode": mode, "aliases": [f"a{number}{each}" for each in range(draw(st.integers(0, 2)))]}
    if draw(st.booleans()):
        model["memory_mib"] = draw(st.integers(64, 65536))
    if draw(st.booleans()):
        model["limits"] = draw(
            st.fixed_dictionaries(
                {}, optional={key: st.integers(1, 10**6) for key in ("rpm", "tpm", "parallel")}
            )
        )  # fmt: skip
    if mode == "image":
        return {**model, "image": "localai/localai:v3.7.0"}
    hub = st.just({"hub": "owner/model", "file": "model.gguf"})
    batch = draw(st.integers(1, 4096))
    model |= {
        "source": draw(hub | st.builds(lambda path: {"path": path}, _paths)),
        "context": draw(st.integers(32, 131072)),
        "slots": draw(st.integers(1, 16)),
        "kv_cache": {"k": draw(_cache_types), "v": draw(_cache_types)},
        "gpu_layers": draw(st.just("all") | st.integers(0, 99)),
        "batch": batch,
        "ubatch": draw(st.integers(1, batch)),
        "extra_args": [shlex.quote(word) for word in draw(st.lists(_flags, max_size=3))],
        "serving": {"drain_timeout_s": draw(_seconds), "queue_timeout_s": draw(_seconds)},
        "price": {"prompt": draw(st.floats(0, 100)), "answer": draw(st.floats(0, 100))},
    }
    if mode == "transcription" or (mode == "chat" and draw(st.booleans())):
        model["projector"] = {"path": draw(_paths)}
    return model


@st.composite
def _provider(draw: st.DrawFn, number: int) -> dict[str, Any]:
    provider: dict[str, Any] = {"model": draw(_words), "aliases": [f"b{number}"] if draw(st.booleans()) else []}
    if draw(st.booleans()):
        provider["api_key_env"] = "OPENAI_API_KEY"
    if draw(st.booleans()):
        provider["rpm"] = draw(st.integers(1, 1000))
    return provider


@st.composite
def _placements(draw: st.DrawFn, hosts: dict[str, Any], models: dict[str, Any]) -> list[dict[str, Any]]:
    free = dict.fromkeys(hosts, 8080)
    servers = []
    for name in draw(st.lists(st.sampled_from(sorted(models)), min_size=1, max_size=6)):
        host = draw(st.sampled_from(sorted(hosts)))
        cards = (
            draw(st.lists(st.sampled_from(range(len(hosts[host]["gpus"]))), unique=True)) if hosts[host]["gpus"] else []
        )
        placement: dict[str, Any] = {"model": name, "host": host}
        if cards:
            placement["gpus"] = cards
        else:
            placement["count"] = draw(st.integers(1, 3))
        count = len(cards) or placement["count"]
        placement["ports"] = list(range(free[host], free[host] + count))
        free[host] += count
        servers.append(placement)
    return servers


@st.composite
def _fallbacks(draw: st.DrawFn, names: list[str]) -> dict[str, list[str]]:
    """Each model falls back on later ones only, so there is no circle."""
    chosen = {}
    for place, name in enumerate(names[:-1]):
        if draw(st.booleans()):
            chosen[name] = draw(st.lists(st.sampled_from(names[place + 1 :]), min_size=1, unique=True))
    return chosen
