"""The farm file: what a farm is, in one file, read into frozen types and checked as a whole.

    loaded = load_farm(Path("corral.yaml"))
    for server in servers_of(loaded.value): ...

`load_farm` refuses a file with all that is wrong in it at once, each with file:line:column and the mend.
"""

from pathlib import Path

from corral.farm.checks import problems
from corral.farm.file import FarmFile
from corral.farm.servers import Server, servers_of
from corral.yamlfile import Loaded, json_schema, load_with_positions

SCHEMA_ID = "https://raw.githubusercontent.com/corral-farm/corral/main/farms/corral.schema.json"

__all__ = ["FarmFile", "Loaded", "Server", "load_farm", "schema", "servers_of"]


def load_farm(path: Path) -> Loaded[FarmFile]:
    """Read and check a farm file.

    Raises:
        YamlFileErrors: All that is wrong with it; exit code 2.
    """
    return load_with_positions(path, FarmFile, problems)


def schema() -> dict[str, object]:
    """Return the farm file's JSON schema, by which editors complete and check it."""
    return json_schema(FarmFile, "Corral's farm file", SCHEMA_ID)
