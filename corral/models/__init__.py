"""Small real models that come in Python packages, made ready to serve without any download of weights.

`catalogue` says what there is, `preparation` makes it ready (`prepare`) and checks it (`verify`); `safetensors`,
`bert`, `wordpiece` and `conversion` turn a BERT encoder into GGUF. Nothing here imports numpy until something must be
converted, so a warm start costs a few `stat` calls. On the command line: `python -m corral.models prepare`.
"""
