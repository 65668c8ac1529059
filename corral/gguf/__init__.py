"""What a GGUF model is, read from its header alone: never a byte of the weights.

`files` reads a local file or a set of split files, `remote` the first MiBs behind a URL; both give a `header.Header`.
`shape` turns its metadata into the sizes that decide how much memory a server of the model needs.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""
