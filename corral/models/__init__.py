"""The GGUF files that a farm serves: where they come from, and how they get here whole.

- `sources` and `wanted`: what a farm file says of a model.
- `fetch` makes models ready (`pull`), with `remote` (what servers say), `persistence` (trying again), `part` (a
  download under way) and `records` (the files in a models folder, and how they came).
- `inventory` lists, verifies and removes; `cli` is `corral models`.
- `catalogue` has the small models that come in Python packages; `preparation` makes those ready (`prepare`), and
  `safetensors`, `bert`, `wordpiece` and `conversion` turn a BERT encoder into GGUF. Nothing here imports numpy until
  something must be converted, so a warm start costs a few `stat` calls: `python -m corral.models prepare`.
"""
