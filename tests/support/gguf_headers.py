"""Headers of models without a file."""

from corral.gguf.header import Header, assemble
from corral.gguf.parser import parse
from support.gguf_files import Model, header_bytes


def header_of(model: Model) -> Header:
    part = parse(header_bytes(model), "model.gguf")
    return assemble("model.gguf", [part], part.data_start + part.data_bytes)
