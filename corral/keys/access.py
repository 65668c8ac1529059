"""Find the gate and its master key: in the environment, else in the state of the farm on this machine."""

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from corral import farmstate
from corral.envfile import parse_env
from corral.keys.client import GateAccess
from corral.keys.errors import GateError, InputError

ENDPOINT_VARIABLE = "CORRAL_ENDPOINT"
MASTER_KEY_VARIABLE = "LITELLM_MASTER_KEY"
DEFAULT_STATE_DIR = Path(".corral")


def resolve_access(state_dir: Path, environ: Mapping[str, str] | None = None) -> GateAccess:
    """Return the gate's address and master key: both of the farm in `state_dir`, or both from the environment.

    The two never mix: a master key goes to its own gate only, and to the farm's only while the farm runs, since
    another program may listen on its port later.

    Raises:
        GateError: no farm runs there, or a file cannot be read, or CORRAL_ENDPOINT is set without LITELLM_MASTER_KEY.
        InputError: the endpoint is not an http address.
    """
    variables = os.environ if environ is None else environ
    if endpoint := variables.get(ENDPOINT_VARIABLE):
        key = variables.get(MASTER_KEY_VARIABLE)
        if not key:
            raise GateError(
                f"{ENDPOINT_VARIABLE} is set, but not {MASTER_KEY_VARIABLE}", "set that gate's master key as well"
            )
        return GateAccess(base_url=base_url(endpoint), master_key=key)
    endpoint = _endpoint_of_farm(state_dir / "run" / "state.json")
    return GateAccess(base_url=base_url(endpoint), master_key=_master_key_of_farm(state_dir / ".env"))


def base_url(endpoint: str) -> str:
    """Return the address without a trailing `/v1`: `http://host:4000/v1` and `http://host:4000/` give `http://host:4000`.

    Raises:
        InputError: it is not an http or https address.
    """
    try:
        parts = urlsplit(endpoint)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise InputError(f"{endpoint!r} is no address of a gate", "give one like http://127.0.0.1:4000/v1")
    return endpoint.rstrip("/").removesuffix("/v1").rstrip("/")


def _endpoint_of_farm(path: Path) -> str:
    farm = farmstate.read(path)
    if farm is None or farmstate.keeper(farm) is None or farm.phase not in ("starting", "running"):
        raise GateError(
            f"no farm runs in {path.parent.parent}",
            f"start it with `make up`, or set {ENDPOINT_VARIABLE} and {MASTER_KEY_VARIABLE} for another gate",
        )
    return farm.endpoint


def _master_key_of_farm(path: Path) -> str:
    mend = f"set {MASTER_KEY_VARIABLE}"
    text = _read(path, mend)
    key = parse_env(text).get(MASTER_KEY_VARIABLE) if text is not None else None
    if not key:
        raise GateError(f"the master key is not known: no {MASTER_KEY_VARIABLE} in {path}", mend)
    return key


def _read(path: Path, mend: str) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise GateError(f"{path} cannot be read ({reason})", f"run as the farm's owner, or {mend}") from error
