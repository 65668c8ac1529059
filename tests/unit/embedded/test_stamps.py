"""A step of the installation is done once, and again when what it was made from, or what it made, has changed."""

from pathlib import Path

import pytest

from litellm_embedded.stamps import Step, digest


class Workshop:
    """A step that writes one file and counts how often it ran."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.product = folder / "product"
        self.runs = 0

    def step(self, inputs: str = "v1") -> Step:
        return Step("a product", self.folder / ".stamp", inputs, (self.product,), self.make)

    def make(self) -> None:
        self.runs += 1
        self.product.write_text(f"made {self.runs}", encoding="utf-8")


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    shop = Workshop(tmp_path)
    assert not shop.step().is_done()
    shop.step().do()
    return shop


def test_done_once_is_done(workshop: Workshop) -> None:
    assert workshop.step().is_done()


def test_other_inputs_ask_for_it_again(workshop: Workshop) -> None:
    assert not workshop.step("v2").is_done()
    workshop.step("v2").do()
    assert workshop.step("v2").is_done()


def test_a_product_that_somebody_replaced_or_removed_is_made_again(workshop: Workshop) -> None:
    workshop.product.write_text("from a reinstalled package", encoding="utf-8")
    assert not workshop.step().is_done()
    workshop.product.unlink()
    assert not workshop.step().is_done()


def test_a_run_that_breaks_off_counts_as_not_done(workshop: Workshop) -> None:
    def break_off() -> None:
        raise KeyboardInterrupt

    step = Step("a product", workshop.folder / ".stamp", "v1", (workshop.product,), break_off)
    with pytest.raises(KeyboardInterrupt):
        step.do()
    assert not workshop.step().is_done()


def test_the_digest_tells_a_missing_file_from_an_empty_one(tmp_path: Path) -> None:
    before = digest("x", [tmp_path / "file"])
    (tmp_path / "file").touch()
    assert digest("x", [tmp_path / "file"]) != before
