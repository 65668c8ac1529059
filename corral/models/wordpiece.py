"""A WordPiece vocabulary, read from `tokenizer.json` and written the way llama.cpp's `bert` tokenizer wants it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corral.models.errors import FormatError

CONTINUATION = "##"
WORD_START = "\u2581"
SPECIAL_TOKENS = {
    "unknown": "[UNK]",
    "seperator": "[SEP]",  # GGUF's own spelling
    "padding": "[PAD]",
    "cls": "[CLS]",
    "mask": "[MASK]",
    "bos": "[CLS]",
    "eos": "[SEP]",
}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens by id, as in `tokenizer.json`, and which of them are special (never made from a user's text)."""

    tokens: tuple[str, ...]
    special: frozenset[str]

    def ids(self) -> dict[str, int]:
        """Return the ids of GGUF's special tokens by role: unknown, seperator, padding, cls, mask, bos, eos."""
        return {role: self.tokens.index(token) for role, token in SPECIAL_TOKENS.items()}

    def phantom_spaced(self) -> list[str]:
        """Return the tokens in llama.cpp's form: the start of a word is marked, its continuation is not.

        `play`, `##ing` become `\u2581play`, `ing`; special tokens stay. Source: `BertModel.set_vocab` in llama.cpp's
        convert_hf_to_gguf.py.
        """
        return [self._phantom_spaced(token) for token in self.tokens]

    def _phantom_spaced(self, token: str) -> str:
        if token in self.special:
            return token
        return token.removeprefix(CONTINUATION) if token.startswith(CONTINUATION) else WORD_START + token


def read_vocabulary(path: Path, size: int) -> Vocabulary:
    """Read the WordPiece vocabulary of `size` tokens from a `tokenizer.json`.

    Raises:
        FormatError: it is another kind of tokenizer, ids have holes, or a special token is missing.
        OSError: the file cannot be read.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        model, added = document["model"], document["added_tokens"]
        special = frozenset(token["content"] for token in added if token["special"])
        by_text: dict[str, int] = dict(model["vocab"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FormatError(
            f"{path} is not a tokenizer.json with a vocabulary ({type(error).__name__}: {error})"
        ) from None
    _check_kind(path, document, model)
    tokens = _by_id(path, by_text, size)
    missing = sorted(set(SPECIAL_TOKENS.values()) - (special & by_text.keys()))
    if missing:
        raise FormatError(f"{path}: no special token {', '.join(missing)}")
    return Vocabulary(tokens, special)


def _check_kind(path: Path, document: dict[str, Any], model: dict[str, Any]) -> None:
    kind, prefix = model.get("type"), model.get("continuing_subword_prefix")
    if kind != "WordPiece" or prefix != CONTINUATION:
        raise FormatError(
            f"{path}: the tokenizer is {kind!r} with prefix {prefix!r}, not WordPiece with {CONTINUATION!r}"
        )
    # llama.cpp's bert tokenizer always lower-cases and strips accents; a cased model would get wrong tokens in silence.
    normalizer = document.get("normalizer") or {}
    if not normalizer.get("lowercase") or normalizer.get("strip_accents") is False:
        raise FormatError(
            f"{path}: a cased tokenizer, but llama.cpp lower-cases and strips accents for this architecture"
        )


def _by_id(path: Path, by_text: dict[str, int], size: int) -> tuple[str, ...]:
    by_id = {number: text for text, number in by_text.items()}
    if len(by_text) != size:
        raise FormatError(f"{path}: {len(by_text)} tokens, but the model has embeddings for {size}")
    hole = next((number for number in range(size) if number not in by_id), None)
    if hole is not None:
        raise FormatError(f"{path}: no token has the id {hole} of {size}")
    return tuple(by_id[number] for number in range(size))
