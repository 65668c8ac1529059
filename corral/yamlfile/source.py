"""From a file's bytes to text that YAML can be read from, or to the place of the byte that stands in the way."""

import re
from pathlib import Path

from corral.yamlfile.problems import Problem, YamlFileErrors

MAX_BYTES = 8 * 1024 * 1024

# What YAML refuses, and what looks like a space or like nothing but ends a line for some readers only.
_REFUSED = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_LINE_END = re.compile(r"\r\n|\r|\n")


def read(path: Path) -> str:
    """Return a file's text, without a byte order mark.

    Raises:
        YamlFileErrors: there is no such file, or it is too large, or not UTF-8.
    """
    try:
        if path.exists() and not path.is_file():
            raise YamlFileErrors(str(path), [Problem(0, 0, (), "is not a file", "give the path of a YAML file")])
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise YamlFileErrors(str(path), [Problem(0, 0, (), "there is no such file", "check the path")]) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        what = f"cannot be read ({reason.lower()})"
        raise YamlFileErrors(str(path), [Problem(0, 0, (), what, "check the path and its permissions")]) from None
    if problem := _size_problem(len(content)):
        raise YamlFileErrors(str(path), [problem])
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise YamlFileErrors(str(path), [Problem(1, 1, (), "the file is UTF-16", "save it as UTF-8")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = line_and_column(content[: error.start].decode("utf-8-sig"))
        what = f"byte 0x{content[error.start]:02x} is not UTF-8"
        raise YamlFileErrors(str(path), [Problem(line, column, (), what, "save the file as UTF-8")]) from None


def check(text: str) -> tuple[str, list[Problem]]:
    """Return text without a byte order mark, and what keeps it from being read as YAML at all."""
    text = text.removeprefix("\ufeff")
    # Counted in characters first: encoding a text of any size only to refuse it would cost more than the refusal.
    size = len(text) if len(text) > MAX_BYTES else len(text.encode(errors="surrogatepass"))
    if problem := _size_problem(size):
        return text, [problem]
    if found := _REFUSED.search(text):
        line, column = line_and_column(text[: found.start()])
        what = f"the character U+{ord(found.group()):04X} stands here, which does not show and YAML does not take"
        mend = f'delete it, or write it in double quotes as "\\u{ord(found.group()):04x}"'
        return text, [Problem(line, column, (), what, mend)]
    return text, []


def line_and_column(before: str) -> tuple[int, int]:
    """Return the place, counted from 1, of what comes after `before`."""
    end = 0
    lines = 1
    for found in _LINE_END.finditer(before):
        lines += 1
        end = found.end()
    return lines, len(before) - end + 1


def split_lines(text: str) -> list[str]:
    """Return the lines of a text as YAML and editors count them."""
    return _LINE_END.split(text)


def _size_problem(size: int) -> Problem | None:
    if size <= MAX_BYTES:
        return None
    return Problem(
        1, 1, (), f"the file is larger than {MAX_BYTES // 1024**2} MiB", "split it or take out what is generated"
    )
