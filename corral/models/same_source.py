"""Two models of one source: the file is fetched once and has both names."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace

from corral.models.records import Files, Record


def other_name(files: Files, origin: Mapping[str, str], sha256: str | None, names: Iterable[str]) -> Record | None:
    """Give a file that came from the same source the name of this model too, by a hard link.

    Args:
        files: of the model that is to be there; the caller holds its lock.
        origin: of its source.
        sha256: what the file must have, if anybody told.
        names: models that may have it, in the same folder.

    Returns:
        The record of what is there now; None if no such file is there, or the file system has no links.
    """
    for name in names:
        twin = Files(files.folder, name)
        record = twin.recorded()
        if record is None or record.origin != origin or sha256 not in (None, record.sha256):
            continue
        new = files.folder / f".{files.name}.{os.getpid()}.new"
        try:
            os.link(twin.target, new)
        except OSError:
            continue
        new.replace(files.target)
        new.unlink(missing_ok=True)  # a rename over another name of the same file does nothing, and leaves both
        same = replace(record, checked=record.checked or sha256 is not None)
        files.write_record(same)
        return same
    return None
