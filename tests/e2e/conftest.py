from collections.abc import Iterator

import pytest

from support.farm import Farm, farm_in


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A farm for all tests of a file; they leave it as they found it."""
    with farm_in(tmp_path_factory.mktemp("farm") / "state") as farm:
        yield farm.up()
