"""The servers of a farm: their names, cards and ports, which every rendered file and metric carries."""

from corral.farm import servers_of
from support.farm_files import farm_of

FARM = """\
hosts:
  one: {address: 10.0.0.1, gpus: [{memory_mib: 8192, name: a}, {memory_mib: 8192, name: b}]}
  two: {address: 10.0.0.2}
models:
  Llama_3.1: {source: {path: /l.gguf}, memory_mib: 2048}
  embed: {mode: embedding, source: {path: /e.gguf}}
servers:
  - {model: Llama_3.1, host: one, gpus: [1], ports: 8080}
  - {model: embed, host: two, count: 2, ports: [8090, 8092]}
  - {model: Llama_3.1, host: one, gpus: [0], ports: 8081, memory_mib: 4096}
  - {model: Llama_3.1, host: two, ports: 8081, name: cpu}
proxy: {host: two}
"""


def test_servers_are_numbered_through_all_placements_of_a_model() -> None:
    servers = servers_of(farm_of(FARM))
    assert [(server.name, server.host_name, server.gpu_index, server.port) for server in servers] == [
        ("llama-3-1-1", "one", 1, 8080),
        ("embed-1", "two", None, 8090),
        ("embed-2", "two", None, 8092),
        ("llama-3-1-2", "one", 0, 8081),
        ("cpu-1", "two", None, 8081),
    ]


def test_a_server_knows_its_card_its_memory_and_where_the_file_asks_for_it() -> None:
    first, _, _, second, third = servers_of(farm_of(FARM))
    assert (first.gpu and first.gpu.name, second.gpu and second.gpu.name, third.gpu) == ("b", "a", None)
    assert (first.memory_mib, second.memory_mib) == (2048, 4096)
    assert (second.path, second.model_name) == (("servers", 2), "Llama_3.1")


def test_all_cards_or_where_there_are_none_as_many_as_are_counted() -> None:
    text = "hosts: {here: {runtime: processes, gpus: GPUS}}\nmodels: {m: {source: {path: m.gguf}}}\n"
    text += "servers: [{model: m, host: here, gpus: all, count: 2, ports: 8080-8081}]\n"
    cards = servers_of(farm_of(text.replace("GPUS", "[{memory_mib: 8192}, {memory_mib: 4096}]")))
    none = servers_of(farm_of(text.replace("GPUS", "[]")))
    detected = servers_of(farm_of(text.replace("GPUS", "detect").replace("8080-8081", "8080-8089")))
    assert [server.gpu_index for server in cards] == [0, 1]
    assert [server.gpu_index for server in none] == [None, None]
    assert [(server.name, server.port) for server in detected] == [("m-1", 8080), ("m-2", 8081)]
