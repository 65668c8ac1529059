"""Settings of one gpu-server: environment variables, parsed once into a frozen type (contract 1).

`load()` is the only place that reads the environment. It gives a `Settings`, or raises `SettingsError` with one line
for each fault: a value that does not parse, settings that contradict one another, a variable that looks like ours but
is misspelt.
"""

import difflib
import ipaddress
import os
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from gpu_server.elf import wrong_machine
from gpu_server.embedded_flags import CacheType
from gpu_server.gguf_file import ModelFileError, check_model_file

Mode = Literal["chat", "embedding", "rerank", "transcription"]

MIN_CONTEXT_A_SLOT = 32
_SIMILAR = 0.85  # difflib's ratio over which a variable counts as a misspelt setting

# Flags of llama-server that the wrapper sets itself; EXTRA_ARGS may not give them a second time.
OWNED_FLAGS: Mapping[str, str] = {
    "--model": "MODEL_PATH", "-m": "MODEL_PATH", "--alias": "MODEL_ALIAS", "-a": "MODEL_ALIAS",
    "--mmproj": "MMPROJ_PATH", "-mm": "MMPROJ_PATH", "--n-gpu-layers": "N_GPU_LAYERS", "--gpu-layers": "N_GPU_LAYERS",
    "-ngl": "N_GPU_LAYERS", "--ctx-size": "N_CTX", "-c": "N_CTX", "--batch-size": "N_BATCH", "-b": "N_BATCH",
    "--ubatch-size": "N_UBATCH", "-ub": "N_UBATCH", "--threads": "N_THREADS", "-t": "N_THREADS",
    "--parallel": "N_PARALLEL", "-np": "N_PARALLEL", "--cache-type-k": "CACHE_TYPE_K", "-ctk": "CACHE_TYPE_K",
    "--cache-type-v": "CACHE_TYPE_V", "-ctv": "CACHE_TYPE_V", "--cache-reuse": "CACHE_REUSE",
    "--cache-ram": "CACHE_RAM_MIB", "-cram": "CACHE_RAM_MIB", "--embedding": "MODE", "--embeddings": "MODE",
    "--reranking": "MODE", "--rerank": "MODE", "--host": "HOST", "--port": "PORT", "--api-key": "API_KEY",
    "--api-key-file": "API_KEY",
}  # fmt: skip


class SettingsError(Exception):
    """The settings cannot be used; `faults` has one line for each reason."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


class Settings(BaseSettings):
    """What one gpu-server is told: the model, the shape of its llama-server, its address and its limits."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, extra="ignore", protected_namespaces=())

    model_path: Path = Field(description="GGUF file of the model")
    model_alias: str = Field(default="", description="name the model is served under; unset: the file's")
    mode: Mode = Field(default="chat", description="what it serves; decides which routes answer")
    mmproj_path: Path | None = Field(default=None, description="GGUF file of the image or audio projector")
    n_gpu_layers: int | None = Field(default=None, ge=0, description="layers on the GPU; unset: as many as fit")
    n_ctx: int = Field(default=8192, ge=MIN_CONTEXT_A_SLOT, description="context in tokens, shared by the slots")
    n_batch: int = Field(default=512, ge=1, description="prompt tokens handled in one go")
    n_ubatch: int = Field(default=512, ge=1, description="tokens in one pass on the device; at most N_BATCH")
    n_threads: int | None = Field(default=None, ge=1, description="CPU threads; unset: llama.cpp's choice")
    n_parallel: int = Field(default=1, ge=1, le=256, description="slots: requests answered at the same time")
    cache_type_k: CacheType = Field(default="f16", description="type of the KV cache's keys")
    cache_type_v: CacheType = Field(default="f16", description="type of the KV cache's values")
    cache_reuse: int = Field(default=256, ge=0, description="shortest run of tokens to reuse after a shift; chat")
    cache_ram_mib: int = Field(default=512, ge=-1, description="host memory for idle chats' prompts; -1: no limit")
    extra_args: str = Field(default="", description="further llama-server flags, quoted as for a shell")
    llama_server: str | None = Field(
        default=None,
        description="the binary; unset: llama-server on PATH, else the embedded one (PyPI xllamacpp)",
    )
    server_name: str = Field(
        default="", pattern=r"^[A-Za-z0-9._-]*$", description="in headers and logs; unset: <alias>-<port>"
    )
    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8080, ge=1, le=65535, description="port to listen on")
    api_key: SecretStr = Field(
        default=SecretStr(""), description="clients' bearer key; may be empty on a loopback HOST"
    )
    gpu_uuid: str | None = Field(
        default=None, pattern=r"^(GPU|MIG)-[0-9A-Za-z/-]+$", description="the only GPU it may use"
    )
    max_queue: int = Field(default=32, ge=0, description="requests that may wait for a slot")
    queue_timeout_s: float = Field(default=60, gt=0, description="longest wait for a slot or for a restart")
    first_byte_timeout_s: float = Field(default=600, gt=0, description="longest wait for an answer to begin")
    stall_timeout_s: float = Field(
        default=60,
        gt=0,
        description="work without progress for so long: restart; a client that reads nothing for so long: cut off",
    )
    drain_timeout_s: float = Field(default=30, ge=0, description="time that work in flight gets to finish at a stop")
    max_body_mib: float = Field(default=32, gt=0, description="largest request body")
    allow_remote_media: bool = Field(default=False, description="let requests make it fetch image or audio URLs")
    restart_pause_s: float = Field(
        default=0,
        ge=0,
        le=3600,
        description="how long wrong settings are answered on /health before it ends; image: 60",
    )
    log_format: Literal["json", "text"] = Field(default="json", description="form of the log lines on stdout")

    @cached_property
    def alias(self) -> str:
        """The name the model is served under."""
        return self.model_alias or self.model_path.stem

    @cached_property
    def name(self) -> str:
        """The name of this server in headers, metrics and logs."""
        return self.server_name or f"{self.alias}-{self.port}"

    @cached_property
    def max_body_bytes(self) -> int:
        """MAX_BODY_MIB in bytes."""
        return int(self.max_body_mib * 1024 * 1024)

    @cached_property
    def extra_argv(self) -> tuple[str, ...]:
        """EXTRA_ARGS as words."""
        return tuple(shlex.split(self.extra_args))


def load() -> Settings:
    """Parse and check the settings in the environment.

    Raises:
        SettingsError: One line for each fault; each names the setting and the mend.
    """
    faults = list(_misspelt(os.environ))
    try:
        settings = Settings.model_validate({})  # reads the environment, as Settings() does
    except ValidationError as error:
        raise SettingsError([*faults, *_parse_faults(error, os.environ)]) from None
    faults += _contradictions(settings)
    if faults:
        raise SettingsError(faults)
    return settings


def describe() -> str:
    """Return a table of all settings, a line each: name, default, meaning."""
    lines = []
    for field, info in Settings.model_fields.items():
        default = info.default
        if info.is_required():
            shown = "required"
        elif default is None or default == "" or isinstance(default, SecretStr):
            shown = "unset"
        else:
            shown = str(default).lower() if isinstance(default, bool) else str(default)
        choices = getattr(info.annotation, "__args__", ())
        options = f" ({', '.join(choices)})" if choices and all(isinstance(c, str) for c in choices) else ""
        lines.append(f"  {field.upper():<22}{shown:<11}{info.description}{options}")
    return "\n".join(lines)


def _misspelt(environ: Mapping[str, str]) -> Iterator[str]:
    known = [field.upper() for field in Settings.model_fields]
    for name in environ:
        if name in known:
            continue
        nearest = difflib.get_close_matches(name.upper(), known, n=1, cutoff=_SIMILAR)
        if nearest:
            yield f"{name} is not a setting; did you mean {nearest[0]}? (else unset it)"
        elif name.startswith("N_") and name[2:].isupper():
            yield f"{name} is not a setting; `gpu-server --help` lists them"


def _parse_faults(error: ValidationError, environ: Mapping[str, str]) -> Iterator[str]:
    for fault in error.errors(include_url=False, include_context=False):
        name = str(fault["loc"][0]).upper() if fault["loc"] else "settings"
        if fault["type"] == "missing":
            yield f"{name} is not set; set it to the {Settings.model_fields[name.lower()].description}"
        elif fault["type"] == "string_pattern_mismatch":
            yield f"{name}={environ[name]!r}: must look like {_PATTERN_EXAMPLES[name]}"
        else:
            given = "" if name == "API_KEY" else f"={environ.get(name, '')!r}"
            message = fault["msg"].removeprefix("Input should be ").rstrip(".")
            yield f"{name}{given}: must be {message}"


_PATTERN_EXAMPLES = {
    "GPU_UUID": "GPU-xxxxxxxx-... (see `nvidia-smi -L`)",
    "SERVER_NAME": "gpu-0 (letters, digits, . _ -)",
}


def _contradictions(settings: Settings) -> Iterator[str]:
    yield from _file_faults(settings)
    yield from _engine_faults(settings)
    yield from _argument_faults(settings)
    if not settings.api_key.get_secret_value() and not is_loopback(settings.host):
        yield f"API_KEY is empty while HOST={settings.host} can be reached from outside; set a key or HOST=127.0.0.1"


def _file_faults(settings: Settings) -> Iterator[str]:
    for name, path in (("MODEL_PATH", settings.model_path), ("MMPROJ_PATH", settings.mmproj_path)):
        if path is None:
            continue
        try:
            check_model_file(path)
        except ModelFileError as error:
            yield f"{name}: {error}"
    program = shutil.which(settings.llama_server or "llama-server")
    if settings.llama_server and not program:
        yield f"LLAMA_SERVER={settings.llama_server}: no such program, or not executable; correct or unset it"
    if program and (fault := wrong_machine(Path(program))):
        yield f"LLAMA_SERVER: {fault}; use an image, or a llama-server, for this machine"


def _engine_faults(settings: Settings) -> Iterator[str]:
    if settings.n_ubatch > settings.n_batch:
        yield f"N_UBATCH={settings.n_ubatch} is over N_BATCH={settings.n_batch}; lower N_UBATCH"
    if settings.n_ctx // settings.n_parallel < MIN_CONTEXT_A_SLOT:
        a_slot = settings.n_ctx // settings.n_parallel
        yield f"N_CTX={settings.n_ctx} over N_PARALLEL={settings.n_parallel} leaves {a_slot} tokens a slot; raise N_CTX"
    if settings.gpu_uuid and settings.n_gpu_layers == 0:
        yield "GPU_UUID is set while N_GPU_LAYERS=0 keeps the model off the GPU; unset one of them"
    if settings.mode == "transcription" and settings.mmproj_path is None:
        yield "MODE=transcription needs MMPROJ_PATH, the audio projector of the model"
    if settings.mode in ("embedding", "rerank") and settings.mmproj_path is not None:
        yield f"MMPROJ_PATH has no use with MODE={settings.mode}; unset it"


def _argument_faults(settings: Settings) -> Iterator[str]:
    try:
        words = settings.extra_argv
    except ValueError as error:
        yield f"EXTRA_ARGS={settings.extra_args!r}: {str(error).lower()}; quote it as for a shell"
        return
    for word in words:
        owner = OWNED_FLAGS.get(word.split("=", 1)[0])
        if owner:
            yield f"EXTRA_ARGS has {word}, which the wrapper sets; use {owner}"


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
