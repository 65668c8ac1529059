"""What is said of a file that does not fit its model: the place, what is wrong, the mend, and nothing of Pydantic's."""

from collections.abc import Iterator

import pytest

from corral.yamlfile import Problem, YamlFileErrors, loads
from support.yaml_models import GOOD, Farm, Model, faults


def test_a_farm_in_order_is_loaded_and_frozen() -> None:
    farm = loads(GOOD, "farm.yaml", Farm)
    assert (farm.boxes[1].gpus, farm.models["nomic"].source.kind) == ("all", "hub")
    with pytest.raises(ValueError, match="frozen"):
        farm.boxes = []  # type: ignore[misc]  # the point of the test


BOX = "boxes:\n  - address: a\n    port: 8080\n"
MODEL = BOX + "models:\n  m:\n    source: {kind: local, path: a.gguf}\n"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        # Keys
        (
            MODEL + "    contxt: 1\n",
            ("7:5: models.m.contxt: unknown key; did you mean `context`? (known: source, context, mode, cache_type)"),
        ),
        (MODEL + "    Cache-Type: f16\n", "7:5: models.m.Cache-Type: unknown key; did you mean `cache_type`?"),
        (
            BOX + "    zzz: 1\n",
            "4:5: boxes[0].zzz: unknown key; write one of those known: address, port, gpus, devices,",
        ),
        (BOX + "    slots: 1\n", "4:5: boxes[0].slots: unknown key; write one of those known:"),
        (
            BOX + "    spare: {address: b, prot: 1, port: 2}\n",
            "4:25: boxes[0].spare.prot: unknown key; did you mean `port`?",
        ),
        (
            BOX + "    devices: [{name: x, capabilty: y}]\n",
            ("4:25: boxes[0].devices[0].capabilty: unknown key; did you mean `capability`? (known: name, capability)"),
        ),
        (
            BOX + "models:\n  m:\n    source: {kind: hub, repo: a/b, repository: a/b}\n",
            "6:25: models.m.source.repo: unknown key; did you mean `repository`? (known: kind, repository, stars)",
        ),
        (
            "boxes:\n  - address: a\n",
            ("2:5: boxes[0].port: missing; add `port`: a whole number from 1 to 65535, such as `port: 8080`"),
        ),
        (BOX + "models:\n  m: {}\n", "5:6: models.m.source: missing; add `source`: a mapping"),
        ("models: {}\n", "1:1: boxes: missing; add `boxes`: a list of mappings"),
        (BOX + "    labels: {Room: x}\n", "4:14: boxes[0].labels.Room: the key does not have the form ^[a-z]+$"),
        # Kinds
        (
            BOX.replace("8080", "abc"),
            (
                "3:11: boxes[0].port: a whole number from 1 to 65535 is wanted, not `abc`; "
                "write for example `port: 8080`"
            ),
        ),
        (BOX.replace("8080", "80.5"), "3:11: boxes[0].port: a whole number from 1 to 65535 is wanted, not `80.5`"),
        (BOX.replace("8080", ""), "3:10: boxes[0].port: a whole number from 1 to 65535 is wanted, not nothing"),
        (BOX.replace("8080", "[1]"), "3:11: boxes[0].port: a whole number from 1 to 65535 is wanted, not a list"),
        (BOX + "    flash: maybe\n", "4:12: boxes[0].flash: true or false is wanted, not `maybe`"),
        (BOX + "    labels: [a]\n", "4:13: boxes[0].labels: a mapping is wanted, not a list"),
        (
            BOX + "    spare: 5\n",
            (
                "4:12: boxes[0].spare: a mapping is wanted, not `5`; write keys with their values, one a "
                "line (known: address, port,"
            ),
        ),
        (BOX + "    parallel: x\n", "4:15: boxes[0].parallel: a whole number is wanted, not `x`"),
        ("boxes: 5\n", "1:8: boxes: a list of mappings is wanted, not `5`"),
        # Unions: one problem, of the member that is meant
        (
            BOX + "    gpus: x\n",
            "4:11: boxes[0].gpus: `all`, a whole number or a list of whole numbers is wanted, not `x`",
        ),
        (
            BOX + "    gpus: [0, x]\n",
            "4:15: boxes[0].gpus[1]: a whole number is wanted, not `x`; write for example `1`",
        ),
        (BOX + "    devices: [5]\n", "4:15: boxes[0].devices[0]: a mapping is wanted, not `5`"),
        (
            BOX + "models:\n  m: {source: {kind: hup}}\n",
            ("5:15: models.m.source: `hup` is not known; did you mean `hub`? (known: local, hub)"),
        ),
        (
            BOX + "models:\n  m: {source: {path: x}}\n",
            (
                "5:15: models.m.source: the key `kind` is missing, which says what "
                "kind this is; add it: `local` or `hub`"
            ),
        ),
        # Names, limits, forms
        (
            MODEL + "    mode: chta\n",
            "7:11: models.m.mode: `chta` is not known; did you mean `chat`? (known: chat, embedding)",
        ),
        (
            MODEL + "    cache_type: q8\n",
            "7:17: models.m.cache_type: `q8` is not known; did you mean `q8_0`? (known: f16, q8_0)",
        ),
        (
            BOX.replace("8080", "99999"),
            "3:11: boxes[0].port: `99999` is more than 65535; write a whole number from 1 to 65535",
        ),
        (
            MODEL + "    context: 1\n",
            "7:14: models.m.context: `1` is less than 256; write a whole number of at least 256",
        ),
        (
            BOX + "models:\n  m: {source: {kind: hub, repository: x}}\n",
            (
                "5:39: models.m.source.repository: `x` does not have "
                "the form ^[\\w.-]+/[\\w.-]+$; write it in that form, such as `org/name`"
            ),
        ),
        ("boxes: []\n", "1:8: boxes: the value has too few items; give it at least 1 item"),
        # What YAML reads otherwise than it was meant
        (BOX.replace(" a\n", " no\n"), '2:14: boxes[0].address: `no` is read as false, not as text; quote it: "no"'),
        (
            BOX + "    devices: [{name: x, capability: 6.10}]\n",
            ('4:37: boxes[0].devices[0].capability: `6.10` is read as the number 6.1, not as text; quote it: "6.10"'),
        ),
        (
            BOX + "    labels: {a: off}\n",
            '4:17: boxes[0].labels.a: `off` is read as false, not as text; quote it: "off"',
        ),
        (BOX + "    power: yes\n", "4:12: boxes[0].power: `yes` is no number but means true; write a number"),
        # The model's own words
        (BOX.replace("8080", "1"), "2:5: boxes[0]: port 1 needs root; take one above 1023"),
    ],
)
def test_a_mistake_is_one_line_with_its_place_and_its_mend(text: str, wanted: str) -> None:
    [line] = faults(text)
    assert line.startswith(f"farm.yaml:{wanted}")


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    text = GOOD.replace("port: 8080", "prot: 8080").replace("gpus: all", "gpus: none at all").replace("chat", "chatt")
    places = [line.split(":")[1] for line in faults(text + "  nomic: {}\n")]
    assert places == ["2", "3", "8", "18", "25"]


def test_nothing_that_pydantic_says_comes_through() -> None:
    text = GOOD.replace("8080", "x").replace("[0, 1]", "{a: b}").replace("16384", "null").replace("hub", "5")
    said = "\n".join(faults(text)).lower()
    assert said
    for words in ("pydantic", "input", "should be", "valid", "parse", "union", "tagged", "literal", "field required"):
        assert words not in said


def test_a_value_that_came_by_an_alias_is_told_where_it_is_used_and_where_it_stands() -> None:
    text = "boxes:\n  - &b\n    address: a\n    port: 70000\n  - <<: *b\n    address: b\n"
    first, second = faults(text)
    assert first.startswith("farm.yaml:4:11: boxes[0].port: `70000` is more than 65535; ")
    assert second.startswith("farm.yaml:5:9: boxes[1].port: `70000` is more than 65535 (the value stands at 4:11); ")


def one_port_each(farm: Farm) -> Iterator[Problem]:
    ports: dict[int, int] = {}
    for number, box in enumerate(farm.boxes):
        if (first := ports.setdefault(box.port, number)) != number:
            what = f"port {box.port} is taken by boxes[{first}]"
            yield Problem.at(("boxes", number, "port"), what, "take another")
            yield Problem.at(("boxes", number, "labels", "room"), "no room", "name one")
            yield Problem.at(("boxes", number, "port"), "a key", "mend", on_key=True)


def test_cross_checks_give_a_path_and_get_the_place() -> None:
    text = BOX + "  - address: b\n    port: 8080\n"
    with pytest.raises(YamlFileErrors) as caught:
        loads(text, "farm.yaml", Farm, one_port_each)
    assert str(caught.value).split("\n") == [
        "farm.yaml:4:5: boxes[1].labels.room: no room; name one",
        "farm.yaml:5:5: boxes[1].port: a key; mend",
        "farm.yaml:5:11: boxes[1].port: port 8080 is taken by boxes[0]; take another",
    ]


def test_cross_checks_wait_until_the_model_is_valid() -> None:
    text = BOX + "  - address: b\n    port: 8080\n    zzz: 1\n"
    with pytest.raises(YamlFileErrors) as caught:
        loads(text, "farm.yaml", Farm, one_port_each)
    assert [problem.path for problem in caught.value.problems] == [("boxes", 1, "zzz")]


def test_hostile_names_stay_on_their_line() -> None:
    [line] = faults(BOX + 'models:\n  "a\\n\\e[31mb.`c`": {source: {kind: local, path: x}, zzz: 1}\n')
    assert line.startswith("farm.yaml:5:")
    assert '"a\\n\\x1b[31mb.`c`".zzz: unknown key' in line


def test_a_model_can_be_loaded_by_itself() -> None:
    assert loads("source: {kind: local, path: x}\n", "m.yaml", Model).context == 4096
