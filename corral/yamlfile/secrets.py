"""Secrets that stand in a file where everyone reads them; they are found by their names and by their looks."""

import math
import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from corral.yamlfile.problems import KeyPath, Problem

HIDDEN = "(hidden)"
_WHAT = "a secret stands in the file"
_MEND = "put it into .env and name it here: ${NAME}"

# Keys issued by the services a farm may know; what stands before must not be part of the same word.
_ISSUED = re.compile(
    r"""(?<![A-Za-z0-9_-])(?:
        sk-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{4,} | sk-[A-Za-z0-9_-]{16,}   # OpenAI, Anthropic, LiteLLM, Langfuse
      | hf_[A-Za-z0-9]{16,}                                                # Hugging Face
      | gh[pousr]_[A-Za-z0-9]{16,} | github_pat_[A-Za-z0-9_]{16,}          # GitHub
      | AKIA[0-9A-Z]{16}                                                   # AWS
      | glpat-[A-Za-z0-9_-]{16,} | xox[abprs]-[A-Za-z0-9-]{10,}            # GitLab, Slack
      | eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+)?    # a JSON web token
    )|-----BEGIN[ A-Z]*PRIVATE[ ]KEY-----""",
    re.VERBOSE,
)
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,20}://)(?P<user>[^\s/?#@:]*):(?P<password>[^\s/?#@]+)@")
_PREFIXES = ("sk-", "hf_", "gh", "AKIA", "glpat-", "xox", "eyJ", "-----BEGIN", "://")

_REFERENCE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*(?::?\?[^}]*)?\}")
_VARIABLE = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*|os\.environ/\w+|[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+")
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+")
_NAMES = {"key", "token", "password", "passwd", "passphrase", "secret"}
_NEAR_NAMES = _NAMES | {"keys", "tokens", "passwords", "secrets", "auth", "authorization", "credential", "credentials"}
_LONG = 32
_RANDOM_BITS = 3.5  # Shannon entropy a character: hexadecimal comes to 3.6 and more, words to 3.2 and less


def looks_secret(key_path: KeyPath, value: Any) -> Problem | None:
    """Return the problem of a value that looks like a secret, without the value; None if it does not.

    A secret is what has the form of a key that a service issues, a password in a URL, a literal value under a key whose
    last word is (some) key, token, password or secret, and a long random text under a key that has such a word. A
    reference to the environment (`${NAME}`, `$NAME`, `os.environ/NAME`, or the bare name of a variable) is none.
    """
    if value is None or isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if not _is_secret(next((step for step in reversed(key_path) if isinstance(step, str)), ""), value):
        return None
    return Problem.at(key_path, _WHAT, _MEND)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a message with everything in it hidden that looks like a secret, or is one of those given."""
    text = _USERINFO.sub(rf"\g<scheme>{HIDDEN}@", _ISSUED.sub(HIDDEN, text))
    for secret in secrets:
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", HIDDEN, text)
    return text


def repeated(secrets: Iterable[str], texts: Iterable[str]) -> list[str]:
    """Return those secrets that occur in texts, as written or as `repr` writes them, the longest first.

    A file may hold thousands of secrets and of mistakes; hardly ever does a message repeat one.
    """
    everything = "\n".join(texts)
    words = set(re.findall(r"\w+", everything))
    forms = {form for secret in secrets for form in (secret, repr(secret)[1:-1]) if form.strip()}
    found = [form for form in forms if (form in words if re.fullmatch(r"\w+", form) else form in everything)]
    return sorted(found, key=len, reverse=True)


def _is_secret(name: str, value: str | float) -> bool:
    text = str(value)
    if any(prefix in text for prefix in _PREFIXES) and _has_known_form(text):
        return True
    words = _words(name)
    if words.isdisjoint(_NEAR_NAMES) or not text.strip():
        return False
    if _REFERENCE.search(text) or _VARIABLE.fullmatch(text):
        return False
    if _last_word(name) in _NAMES:
        return isinstance(value, str) or _last_word(name) != "token"
    return isinstance(value, str) and _is_random(text)


def _has_known_form(text: str) -> bool:
    found = _USERINFO.search(text)
    if found and not (_REFERENCE.fullmatch(found["password"]) or _VARIABLE.fullmatch(found["password"])):
        return True
    return _ISSUED.search(text) is not None


def _is_random(text: str) -> bool:
    if len(text) < _LONG or re.search(r"[\s/]", text):
        return False
    shares = [count / len(text) for count in Counter(text).values()]
    return -sum(share * math.log2(share) for share in shares) >= _RANDOM_BITS


@lru_cache(maxsize=4096)
def _words(name: str) -> frozenset[str]:
    return frozenset(word.lower() for word in _WORD.findall(name))


def _last_word(name: str) -> str:
    """Return the last word of a key, or "" where it tells nothing: `key` alone, and keys that are published."""
    words = [word.lower() for word in _WORD.findall(name)]
    return "" if not words or words == ["key"] or "public" in words else words[-1]
