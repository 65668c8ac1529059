"""What is refused before any model is asked: text that is no YAML, or YAML that a farm file has no use for."""

import time
from pathlib import Path

import pytest
import yaml

from corral.yamlfile import YamlFileErrors, compose, load, load_with_positions, loads
from support.yaml_models import GOOD, Farm, faults


@pytest.fixture(params=["libyaml", "python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test with each of PyYAML's parsers: the words and places must be the same."""
    monkeypatch.setattr(compose, "PARSER", yaml.CSafeLoader if request.param == "libyaml" else yaml.SafeLoader)


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("a:\n\tb: 1\n", "2:1", "a tab in the indentation"),
        ("a: 1\nport:8080\nb: 2\n", "2:6", "no space after the colon of `port`"),
        ("a:1\nb: 2\n", "1:3", "no space after the colon of `a`"),
        ('a: "x\nb: 1\n', "1:4", "the quote opened here is never closed"),
        ("a: 'x\nb: 1\n", "1:4", "the quote opened here is never closed"),
        ("a: [1, 2\nb: 3\n", "1:4", "the bracket `[` opened here is never closed"),
        ("a: {x: 1\nb: 3\n", "1:4", "the bracket `{` opened here is never closed"),
        ("a: [\n  b c: d: 1\n]\n", "2:", "`,` or `]` is wanted here"),
        ("a:\n    b: 1\n  c: 2\n", "3:3", "the indentation fits no line above"),
        ("a: 1\n  b: 2\n", "2:3", "this line is indented deeper than the one above"),
        ("a: b: c\n", "1:5", "a second `: ` in one line"),
        ("a: it is: so\n", "1:9", "a second `: ` in one line"),
        ("a: 1\n- b\n", "2:1", "a list item `- ` among the keys"),
        ("a:\n  - 1\n  b: 2\n", "3:3", "this line is no item"),
        ("a: @x\n", "1:4", "a value cannot begin with `@`"),
        ('a: "x" y\n', "1:8", "text after the closing quote"),
        ("a: - 1\n", "1:4", "a list item `- ` stands behind a key"),
        ("words\nb: 1\n", "1:1", "this line has no `key: value`"),
        ('a: "\\q"\n', "1:", "a backslash that YAML does not know"),
        ("a: *\n", "1:4", "a name is wanted after"),
        ("a: !e!x 1\n", "1:4", "a tag that cannot be read"),
        ("a: 1\n---\nb: 2\n", "2:1", "a second document begins here"),
        ("", "1:1", "the file is empty"),
        ("# nothing but a comment\n", "1:1", "the file is empty"),
        ("- 1\n", "1:1", "the file is a list, not a mapping"),
        ("words\n", "1:1", "the file is a single value, not a mapping"),
        ("a: 1\nb: 2\x00\n", "2:5", "the character U+0000"),
        ("a: 1\nb: x\u2028y\n", "2:5", "the character U+2028"),
        ("a: \ud800\n", "1:4", "the character U+D800"),
    ],
)
def test_text_that_is_no_yaml_is_refused_where_the_mistake_is(text: str, place: str, what: str) -> None:
    [line] = faults(text)
    assert line.startswith(f"farm.yaml:{place}")
    assert what in line
    assert "; " in line, "no mend is given"


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a: 1\nb: 2\na: 3\n", "farm.yaml:3:1: the key `a` is given twice, first in line 1; keep one of them"),
        ("on: 1\n", 'farm.yaml:1:1: the key `on` is read as true, not as text; quote it: "on":'),
        ("x: {1: 2}\n", 'farm.yaml:1:5: the key `1` is read as the number 1, not as text; quote it: "1":'),
        ("? [a]\n: 1\n", "farm.yaml:1:3: a list or mapping cannot be a key; write the key as text"),
        ("a: &b 1\nc: *d\n", "farm.yaml:2:4: c: the alias `*d` has no anchor `&d` before it"),
        ("a: &port 1\nc: *prot\n", "did you mean `*port`?"),
        ("a: &b [*b]\n", "farm.yaml:1:8: a[0]: the alias `*b` stands inside its own anchor `&b`; write the value out"),
        ("a: &b 1\nc: &b 2\n", "farm.yaml:2:4: c: the anchor `&b` is given twice, first in line 1; rename one of them"),
        ("a: !secret x\n", "farm.yaml:1:4: a: the tag `!secret` is not known here; take the tag out"),
        ("a: !!python/name:os.system x\n", "the tag `!!python/name:os.system` is not known here"),
        ("a: 010\n", "farm.yaml:1:4: a: `010` is read as the number 8 by some programs and as 10 by others; quote it"),
        (
            "a: 1:30\n",
            "farm.yaml:1:4: a: `1:30` is read as the number 90 by some programs and as text by others; quote",
        ),
        ("<<: 5\n", "farm.yaml:1:5: `<<` takes a mapping, or a list of mappings"),
    ],
)
def test_yaml_that_a_farm_has_no_use_for_is_refused(text: str, wanted: str) -> None:
    assert any(wanted in line for line in faults(text)), faults(text)


def laughs(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    ("text", "what"),
    [
        (laughs(12), "more than 200,000 values once its aliases are written out"),
        (
            "x: &x {"
            + ", ".join(f"k{n}: 1" for n in range(999))
            + "}\n"
            + "".join(f"m{n}: {{<<: *x}}\n" for n in range(400)),
            "more than 200,000 values",
        ),
        ("a: " + "[" * 100_000, "lie more than 64 deep"),
        ("- " * 100_000 + "x", "lie more than 64 deep"),
        ("a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 900)), "lie more than 64 deep"),
        ("a: " + "9" * 10_000, "is not a number that can be read"),
        ("x" * (8 * 1024**2 + 1), "larger than 8 MiB"),
        ("b: " + "sk-" * 1_000_000, "b: a secret stands in the file"),
        ("boxes: " + "a" * 4_000_000 + "://", "a list of mappings is wanted"),
    ],
    ids=[
        "laughs",
        "merged laughs",
        "brackets",
        "dashes",
        "deep aliases",
        "long number",
        "large",
        "long key",
        "long scheme",
    ],
)
def test_bombs_are_refused(text: str, what: str) -> None:
    assert what in "\n".join(faults(text))


def test_aliases_and_merges_give_what_pyyaml_gives() -> None:
    text = (
        "base: &base {a: 1, b: 2}\nmore: &more {b: 3, c: 4}\n"
        "one: {<<: *base, b: 9}\ntwo: {<<: [*base, *more], d: 5}\nthree: *base\nfour: {<<: {a: 7}}\n"
        'five: [1, 0x1F, 1_000, 1.5, .inf, yes, null, ~, "no", text]\nsix: !!str 5\nseven: !!float 2\n'
    )
    root, problems = compose.compose(text)
    assert problems == []
    assert root is not None
    assert root.data == yaml.safe_load(text)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "farm.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load(path, Farm) == loads(GOOD, "", Farm)


@pytest.mark.parametrize(
    ("content", "place", "what"),
    [
        (b"a: 1\nb: \xc3\xa9\xff\n", "2:5", "byte 0xff is not UTF-8"),
        ("a: 1\n".encode("utf-16"), "1:1", "the file is UTF-16"),
        (b"a: " + b"x" * 8 * 1024**2, "1:1", "larger than 8 MiB"),
    ],
)
def test_bytes_that_are_not_utf_8_are_refused_where_they_stand(
    tmp_path: Path, content: bytes, place: str, what: str
) -> None:
    path = tmp_path / "farm.yaml"
    path.write_bytes(content)
    with pytest.raises(YamlFileErrors) as caught:
        load(path, Farm)
    assert str(caught.value).startswith(f"{path}:{place}: ")
    assert what in str(caught.value)


@pytest.mark.parametrize("name", ["missing.yaml", ".", "a\0b"])
def test_a_file_that_cannot_be_read_is_one_line_and_exit_code_2(tmp_path: Path, name: str) -> None:
    with pytest.raises(YamlFileErrors, match=r"; (check|give) the path") as caught:
        load(tmp_path / name, Farm)
    assert caught.value.exit_code == 2
    assert len(str(caught.value).split("\n")) == 1


def test_other_code_can_ask_where_a_value_stands(tmp_path: Path) -> None:
    path = tmp_path / "farm.yaml"
    path.write_text(
        "boxes:\n  - &first\n    address: a\n    port: 1024\n  - *first\n  - {<<: *first, port: &p 1025}\n"
        "  - {address: é, port: *p}\n"
    )
    loaded = load_with_positions(path, Farm)
    positions = loaded.positions
    assert loaded.source_text == path.read_text()
    assert loaded.value.boxes[3].port == 1025
    assert positions.of(("boxes", 0, "port")) == (4, 11, None)
    assert positions.of_key(("boxes", 0, "port")) == (4, 5, None)
    assert positions.of(("boxes", 1, "port")) == (5, 5, (4, 11))
    assert positions.of(("boxes", 2, "address")) == (6, 10, (3, 14))
    assert positions.of_key(("boxes", 2, "address")) == (6, 10, (3, 5))
    assert positions.of(("boxes", 3, "port")) == (7, 24, (6, 24))
    assert positions.of(("boxes", 3, "gpus", 5)) == positions.of(("boxes", 3)) == (7, 5, None)
    assert positions.of(("boxes", 9)) == positions.of(("boxes",)) == (2, 3, None)


def test_a_farm_of_a_thousand_boxes_is_read_by_the_fast_parser() -> None:
    box = "  - address: box-{0}\n    port: 8080\n    gpus: [0, 1]\n    # {1}\n    labels:\n{2}"
    labels = "".join(f"      {letter}: value {letter}\n" for letter in "abcdefghijklmnopqrst")
    text = "boxes:\n" + "".join(box.format(number, "x" * 2000, labels) for number in range(1000))
    assert compose.PARSER is yaml.CSafeLoader
    began = time.process_time()
    assert len(loads(text, "farm.yaml", Farm).boxes) == 1000
    assert time.process_time() - began < 5, "about 0.4 s; the bound only keeps it from being quadratic"
