"""What a farm file is told as a whole: each mistake at its line, with the mend, and all of them at once."""

from pathlib import Path

import pytest

from support.farm_files import farm_of, faults

GOOD = """\
hosts:
  box:
    address: 10.0.0.2
    gpus:
      - {memory_mib: 8192}
      - {memory_mib: 8192}
  gate:
    address: 10.0.0.1
models:
  llama:
    source: {path: /llama.gguf}
    aliases: [chat, default]
    limits: {rpm: 35}
  nomic:
    mode: embedding
    source: {path: /nomic.gguf}
    aliases: [embed]
servers:
  - {model: llama, host: box, gpus: [0, 1], ports: 8080-8081}
  - {model: nomic, host: box, gpus: [0], ports: 8090}
providers:
  elsewhere: {model: openai/gpt-4o-mini, api_key_env: OPENAI_API_KEY}
proxy:
  host: gate
  fallbacks:
    llama: [elsewhere]
"""
LOCAL = """\
hosts:
  here: {runtime: processes, gpus: [{memory_mib: 8192}, {memory_mib: 8192}]}
models:
  llama: {source: {path: /llama.gguf}}
servers:
  - {model: llama, host: here, gpus: all, ports: 8080-8081}
"""
FARMS = Path(__file__).parents[3] / "farms"


def changed(old: str, new: str, text: str = GOOD) -> str:
    assert text.count(old) == 1, old
    return text.replace(old, new)


def test_what_is_in_order_is_taken() -> None:
    assert faults(GOOD) == []
    assert faults(LOCAL) == []


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        # Two servers on a port
        (
            changed("ports: 8090", "ports: 8081"),
            "8081",
            "servers[1].ports[0]: port 8081 of box is taken by llama (servers[0]); take another one, 8082 is free",
        ),
        (
            changed("  host: gate\n", "  host: box\n  port: 8080\n"),
            "8080-8081",
            "servers[0].ports[0]: port 8080 of box is taken by the gate; take another one, 8081 is free",
        ),
        (
            changed("8080-8081", "[15432, 4000]", LOCAL),
            "4000]",
            "servers[0].ports[1]: port 4000 of here is taken by the gate; take another one, 4001 is free",
        ),
        (
            changed("8080-8081", "[15432, 8080]", LOCAL),
            "15432",
            "servers[0].ports[0]: port 15432 of here is taken by the database; take another one, 15433 is free",
        ),
        (
            changed("  host: gate\n", "  host: gate\n  port: 9090\n") + "monitoring: {}\n",
            "{}",
            "monitoring.prometheus_port: port 9090 of gate is taken by the gate; take another one, 9091 is free",
        ),
        (
            changed("8080-8081", "[65535, 65535]", LOCAL),
            "65535]",
            "port 65535 of here is taken by llama (servers[0]); take another",
        ),
        # A GPU that is not there
        (
            changed("gpus: [0, 1], ports", "gpus: [0, 2], ports"),
            "2]",
            "servers[0].gpus[1]: host box has no GPU 2; its GPUs are 0 to 1",
        ),
        (
            changed("gpus: [0, 1], ports", "gpus: [0, -1], ports"),
            "-1]",
            "servers[0].gpus[1]: host box has no GPU -1; its GPUs are 0 to 1",
        ),
        (
            changed("gpus: [0, 1], ports", "gpus: [1, 1], ports"),
            "1], ports",
            "servers[0].gpus[1]: GPU 1 is named twice; name it once",
        ),
        (
            changed("host: box, gpus: [0], ", "host: gate, gpus: [0], "),
            "0], ports: 8090",
            "servers[1].gpus[0]: host gate has no GPU 0; its GPUs are none",
        ),
        (
            changed("host: box, gpus: [0], ", "host: gate, gpus: all, "),
            "all",
            "servers[1].gpus: host gate has no GPUs; list them there, or add count",
        ),
        (
            changed("gpus: all", "gpus: [0], count: 2", LOCAL),
            "2, ports",
            "servers[0].count: gpus says how many servers already; take count out",
        ),
        (
            changed("gpus: all", "gpus: [0]", changed("[{memory_mib: 8192}, {memory_mib: 8192}]", "detect", LOCAL)),
            "[0]",
            "servers[0].gpus: the GPUs of here are detected, so none can be named; write gpus: all",
        ),
        # As many ports as servers
        (changed("8080-8081", "8080-8082"), "8080-8082", "servers[0].ports: 3 ports for 2 servers; give 2: 8080-8081"),
        (changed("8090", "8090-8091"), "8090-8091", "servers[1].ports: 2 ports for 1 server; give 1: 8090"),
        # An alias of two models
        (
            changed("[embed]", "[chat]"),
            "chat]",
            "models.nomic.aliases[0]: chat is an alias of llama already; an alias belongs to one model",
        ),
        (
            changed("[embed]", "[llama]"),
            "llama]",
            "models.nomic.aliases[0]: llama is the model llama already; an alias belongs",
        ),
        (
            changed("[embed]", "[embed, embed]"),
            "embed]\n",
            "models.nomic.aliases[1]: embed is an alias of nomic already",
        ),
        (
            changed("OPENAI_API_KEY}", "OPENAI_API_KEY, aliases: [chat]}"),
            "chat]}",
            "providers.elsewhere.aliases[0]: chat is an alias of llama already",
        ),
        (
            changed("  elsewhere: {", "  llama: {"),
            "llama: {",
            "providers.llama: llama is the model llama already; rename it",
        ),
        # Limits without servers
        (
            changed("  - {model: llama, host: box, gpus: [0, 1], ports: 8080-8081}\n", ""),
            "{rpm: 35}",
            "models.llama.limits: limits of a model that no server serves; place it under servers, or take this out",
        ),
        (
            changed("  - {model: nomic, host: box, gpus: [0], ports: 8090}\n", ""),
            "[embed]",
            "models.nomic.aliases: aliases of a model that no server serves; place it under servers",
        ),
        # A cycle of fallbacks
        (
            changed("[elsewhere]\n", "[llama]\n"),
            "llama]",
            "proxy.fallbacks.llama[0]: the fallbacks go in a circle: llama -> llama; take one",
        ),
        (
            changed("[elsewhere]\n", "[elsewhere, nomic]\n    nomic: [llama]\n"),
            "nomic]",
            "proxy.fallbacks.llama[1]: the fallbacks go in a circle: llama -> nomic -> llama; take one of",
        ),
        (
            changed("[elsewhere]\n", "[elswhere]\n"),
            "elswhere",
            "proxy.fallbacks.llama[0]: there is no model elswhere; did you mean elsewhere?",
        ),
        (
            changed("    llama: [elsewhere]", "    lama: [elsewhere]"),
            "lama: [",
            "proxy.fallbacks.lama: there is no model lama; did you mean llama?",
        ),
        # Names that lead nowhere
        (
            changed("model: nomic, host", "model: nomi, host"),
            "nomi,",
            "servers[1].model: there is no model nomi; did you mean nomic?",
        ),
        (
            changed("nomic, host: box", "nomic, host: xxxx"),
            "xxxx",
            "servers[1].host: there is no host xxxx; there are box, gate",
        ),
        (changed("  host: gate", "  host: gat"), "gat\n", "proxy.host: there is no host gat; did you mean gate?"),
        (
            changed("  host: gate\n", ""),
            "proxy:",
            "proxy: several hosts, and none named for the gate; add proxy: {host: NAME}",
        ),
        (GOOD + "monitoring: {host: gte}\n", "gte}", "monitoring.host: there is no host gte; did you mean gate?"),
        # What one machine cannot do
        (
            changed("address: 10.0.0.2", "runtime: processes"),
            "processes",
            "hosts.box.runtime: runtime: processes is for a farm of one host",
        ),
        (
            changed("{source: {path: /llama.gguf}}", "{mode: image, image: owner/localai:v1}", LOCAL),
            "llama, host",
            "servers[0].model: an image server is a container, and this host runs processes; place it",
        ),
        (
            LOCAL + "proxy: {listen: 0.0.0.0}\n",
            "0.0",
            "proxy.listen: the one-machine farm listens on the loopback only; leave it",
        ),
        (
            LOCAL + "proxy: {caching: {redis: true}}\n",
            "true}",
            "proxy.caching.redis: Redis comes with compose hosts only; take it out",
        ),
        (
            changed("  host: gate\n", "  host: gate\n  workers: 2\n"),
            "2\n",
            "proxy.workers: several workers count limits and load each for itself",
        ),
        (
            changed("  host: gate\n", "  host: gate\n  caching: {answers: true}\n"),
            "true}",
            "proxy.caching.answers: answers are kept in Redis only; add redis: true",
        ),
        (
            changed("  host: gate\n", "  host: gate\n  caching: {redis: true, answers: false, ttl_s: 60}\n"),
            "60}",
            "proxy.caching.ttl_s: no answers are kept; set answers: true, or take it out",
        ),
        # Servers of two models under one name
        (
            changed("gpus: [0], ports: 8090", "gpus: [0], ports: 8090, name: llama"),
            "llama}",
            "servers[1].name: servers of llama are called llama-1, llama-2 already; give these a name of their own",
        ),
    ],
)
def test_a_mistake_is_told_where_it_stands_with_the_mend(text: str, place: str, said: str) -> None:
    [told] = [line for line in faults(text) if said in line]
    _, line, column, _ = told.split(":", 3)
    assert text.split("\n", int(line) - 1)[-1][int(column) - 1 :].startswith(place), told


def test_several_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    text = changed("ports: 8090", "ports: 8081", changed("[0, 1], ports", "[0, 7], ports"))
    text = changed("[elsewhere]", "[nowhere]", changed("[embed]", "[chat]", text))
    assert [line.split(":")[1] for line in faults(text)] == ["17", "19", "20", "26"]


def test_the_same_port_on_two_hosts_is_no_conflict() -> None:
    assert (
        faults(changed("{model: nomic, host: box, gpus: [0], ", "{model: nomic, host: gate, ").replace("8090", "8080"))
        == []
    )


@pytest.mark.parametrize("name", ["laptop", "reference", "two-hosts"])
def test_the_examples_are_in_order(name: str) -> None:
    assert farm_of((FARMS / f"{name}.yaml").read_text()).name == name


def test_a_secret_in_the_file_is_refused_and_not_repeated() -> None:
    secret = "sk-proj-1234567890abcdefghij"
    told = faults(changed("api_key_env: OPENAI_API_KEY", f"api_key_env: {secret}"))
    assert any("22:" in line and "a secret stands in the file" in line for line in told)
    assert secret not in "\n".join(told)


def test_a_broken_anchor_is_told_at_its_line() -> None:
    told = faults(changed("{path: /nomic.gguf}", "*lama"))
    assert "farm.yaml:16:13: models.nomic.source: the alias `*lama` has no anchor `&lama` before it" in told[1]
