"""The llama-server flags that the embedded engine takes, and what each sets in xllamacpp's `CommonParams`.

Exactly what `engine.arguments` can pass, with llama-server's short names, and a few more that are useful in EXTRA_ARGS.
Anything else is refused by name: a flag that is silently dropped would be a server that does not do what it was told.
This module imports nothing of ours: the child loads it at every start.
"""

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

CacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
POOLINGS = ("none", "mean", "cls", "last", "rank")
SWITCH_WORDS = ("on", "off", "auto")


class FlagError(Exception):
    """A flag or its value is not taken; the message names it."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag: its names, how its value is read (None: it has no value), where it goes in `CommonParams`."""

    names: tuple[str, ...]
    parse: Callable[[str], object] | None
    target: str
    value: object = None  # what a flag without a value sets


def _integer(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise FlagError("must be a whole number") from None
        if not least <= number <= most:
            raise FlagError(f"must be from {least} to {most}")
        return number

    return parse


def _one_of(words: Sequence[str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise FlagError(f"must be one of {', '.join(words)}")
        return text

    return parse


def _file(text: str) -> str:
    if not Path(text).is_file():
        raise FlagError("no such file")
    return text


FLAGS = (
    Flag(("--model", "-m"), _file, "model.path"),
    Flag(("--mmproj", "-mm"), _file, "mmproj.path"),
    Flag(("--alias", "-a"), str, "model_alias"),
    Flag(("--host",), str, "hostnames"),
    Flag(("--port",), _integer(1, 65535), "port"),
    Flag(("--ctx-size", "-c"), _integer(0), "n_ctx"),
    Flag(("--parallel", "-np"), _integer(1), "n_parallel"),
    Flag(("--batch-size", "-b"), _integer(1), "n_batch"),
    Flag(("--ubatch-size", "-ub"), _integer(1), "n_ubatch"),
    Flag(("--threads", "-t"), _integer(1), "cpuparams.n_threads"),
    Flag(("--threads-batch", "-tb"), _integer(1), "cpuparams_batch.n_threads"),
    Flag(("--n-gpu-layers", "--gpu-layers", "-ngl"), _integer(0), "n_gpu_layers"),
    Flag(("--cache-type-k", "-ctk"), _one_of(get_args(CacheType)), "cache_type_k"),
    Flag(("--cache-type-v", "-ctv"), _one_of(get_args(CacheType)), "cache_type_v"),
    Flag(("--cache-reuse",), _integer(0), "n_cache_reuse"),
    Flag(("--chat-template",), str, "chat_template"),
    Flag(("--cache-ram", "-cram"), _integer(-1), "cache_ram_mib"),
    Flag(("--flash-attn", "-fa"), _one_of(SWITCH_WORDS), "flash_attn_type"),
    Flag(("--pooling",), _one_of(POOLINGS), "pooling_type"),
    Flag(("--embedding", "--embeddings"), None, "embedding", True),
    Flag(("--reranking", "--rerank"), None, "reranking", True),
    Flag(("--metrics",), None, "endpoint_metrics", True),
    Flag(("--slots",), None, "endpoint_slots", True),
    Flag(("--no-webui", "--no-ui"), None, "ui", False),
    Flag(("--jinja",), None, "use_jinja", True),
    Flag(("--no-jinja",), None, "use_jinja", False),
    Flag(("--no-warmup",), None, "warmup", False),
)
_BY_NAME = {name: flag for flag in FLAGS for name in flag.names}


def parse(argv: Sequence[str]) -> dict[str, object]:
    """Read llama-server flags into `{target: value}`.

    Raises:
        FlagError: A flag is unknown, lacks its value or has a wrong one, or --model or --port is missing.
    """
    chosen: dict[str, object] = {}
    words = iter(argv)
    for word in words:
        name, _, inline = word.partition("=")
        flag = _BY_NAME.get(name)
        if flag is None:
            raise FlagError(_unknown(name))
        if flag.parse is None:
            if inline:
                raise FlagError(f"{name} takes no value")
            chosen[flag.target] = flag.value
        else:
            chosen[flag.target] = _value(name, flag.parse, inline, words)
    for needed in ("--model", "--port"):
        if _BY_NAME[needed].target not in chosen:
            raise FlagError(f"{needed} is missing")
    return chosen


def _value(name: str, parse_text: Callable[[str], object], inline: str, words: Iterator[str]) -> object:
    text = inline or next(words, None)
    if text is None:
        raise FlagError(f"{name} needs a value")
    try:
        return parse_text(text)
    except FlagError as error:
        raise FlagError(f"{name} {text}: {error}") from None


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, _BY_NAME, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return (
        f"the embedded llama-server does not take {name}{hint} (set LLAMA_SERVER to a real llama-server for all flags)"
    )


def common_params(chosen: dict[str, object], xllamacpp: Any) -> Any:
    """Return xllamacpp's `CommonParams` with `chosen` set; `xllamacpp` is the imported module."""
    params = xllamacpp.CommonParams()
    convert: dict[str, Callable[[str], object]] = {
        "cache_type_k": lambda word: xllamacpp.ggml_type[f"GGML_TYPE_{word.upper()}"],
        "cache_type_v": lambda word: xllamacpp.ggml_type[f"GGML_TYPE_{word.upper()}"],
        "pooling_type": lambda word: xllamacpp.llama_pooling_type[f"LLAMA_POOLING_TYPE_{word.upper()}"],
        "flash_attn_type": lambda word: xllamacpp.llama_flash_attn_type[f"LLAMA_FLASH_ATTN_TYPE_{_FLASH[word]}"],
        "model_alias": lambda word: {word},
        "hostnames": lambda word: [word],
    }
    for target, value in chosen.items():
        if target == "reranking":
            params.embedding = True
            params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
            continue
        owner, _, leaf = target.rpartition(".")
        setattr(
            getattr(params, owner) if owner else params,
            leaf,
            convert[target](str(value)) if target in convert else value,
        )
    return params


_FLASH = {"on": "ENABLED", "off": "DISABLED", "auto": "AUTO"}
