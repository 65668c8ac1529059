"""What a YAML parser's complaint means, in a person's words, and the place where the mistake was made.

The parser (libyaml, or PyYAML's own, whose words differ a little) says where it gave up; that is often a line or more
behind the mistake: an unclosed quote is noticed at the end of the file.
"""

import re
from typing import NamedTuple

import yaml

from corral.yamlfile.problems import Problem, one_line, ticked
from corral.yamlfile.source import split_lines

_NO_SPACE_AFTER_COLON = re.compile(r"\s*(?:- +)*(?P<key>[A-Za-z_][\w.-]*):(?P<value>[^\s:/].*)")
_KEY_AND_VALUE = re.compile(r"""\s*(?:- +)*(?:[\w.-]+|"[^"]*"|'[^']*'):\s+(?P<value>[^\s#&|>].*)""")
_INDENTATION = "line up the keys of one mapping, and indent what belongs to a key by two spaces"


class _Complaint(NamedTuple):
    """What the parser said; places count from 0, a context without a place has that of the problem."""

    problem: str
    context: str
    line: int
    column: int
    context_line: int
    context_column: int
    lines: list[str]
    bracket: tuple[int, int] | None

    @property
    def text(self) -> str:
        """The line in which the parser gave up."""
        return self.line_at(self.line)

    def line_at(self, number: int) -> str:
        return self.lines[number] if 0 <= number < len(self.lines) else ""

    def here(self, what: str, mend: str) -> Problem:
        return Problem(self.line + 1, self.column + 1, (), what, mend)

    def at_context(self, what: str, mend: str) -> Problem:
        return Problem(self.context_line + 1, self.context_column + 1, (), what, mend)


def explain(error: yaml.YAMLError, text: str, bracket: tuple[int, int] | None) -> Problem:
    """Return what is wrong, where, and its mend.

    Args:
        error: what the parser raised.
        text: what it read.
        bracket: the place of the innermost `[` or `{` still open when it gave up, from 1.
    """
    mark = getattr(error, "problem_mark", None)
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return Problem(1, 1, (), "this is not YAML", "save the file as plain UTF-8 text")
    lines = split_lines(text)
    context = error.context_mark or mark
    line, column = _inside(mark, lines)
    complaint = _Complaint(
        error.problem or "", error.context or "", line, column, *_inside(context, lines), lines, bracket
    )  # fmt: skip
    for explanation in (_tab, _unclosed, _colon, _start, _structure, _small_print):
        if problem := explanation(complaint):
            return problem
    return complaint.here(
        "YAML cannot be read on from here", "check the indentation, quotes and brackets of this line and the one before"
    )


def _inside(mark: yaml.Mark, lines: list[str]) -> tuple[int, int]:
    """Return a mark's place, brought back into the file from behind its end."""
    line = min(mark.line, len(lines) - 1)
    return line, min(mark.column, len(lines[line])) if line == mark.line else len(lines[line])


def _tab(complaint: _Complaint) -> Problem | None:
    indentation = complaint.text[: len(complaint.text) - len(complaint.text.lstrip())]
    if "\t" not in indentation or complaint.column > len(indentation):
        return None
    return Problem(complaint.line + 1, indentation.index("\t") + 1, (), "a tab in the indentation", "use spaces")


def _unclosed(complaint: _Complaint) -> Problem | None:
    if "quoted scalar" in complaint.context and ("end of stream" in complaint.problem or _is_separator(complaint)):
        quote = complaint.line_at(complaint.context_line)[complaint.context_column :][:1] or '"'
        return complaint.at_context("the quote opened here is never closed", f"close it with {quote}")
    if complaint.bracket is None or "scanning" in complaint.context:
        return None
    line, column = complaint.bracket
    opened = "{" if complaint.line_at(line - 1)[column - 1 :].lstrip("&!*").startswith("{") else "["
    closing = "]" if opened == "[" else "}"
    rest = "\n".join([complaint.text[complaint.column :], *complaint.lines[complaint.line + 1 :]])
    if closing in rest:
        return complaint.here(f"`,` or `{closing}` is wanted here", "put a comma between the items; quote text")
    return Problem(
        line, column, (), f"the bracket `{opened}` opened here is never closed", f"close it with `{closing}`"
    )


def _is_separator(complaint: _Complaint) -> bool:
    return "document separator" in complaint.problem


def _colon(complaint: _Complaint) -> Problem | None:
    if "expected ':'" in complaint.problem:
        return _line_without_colon(complaint, complaint.context_line)
    if "mapping values are not allowed" not in complaint.problem:
        return None
    before = complaint.text[: complaint.column]
    if _KEY_AND_VALUE.match(before):
        return complaint.here("a second `: ` in one line", 'put the value in quotes if it is text: key: "a: b"')
    return _above(complaint) or complaint.here(
        "a key stands where a value goes on", "put the key on a line of its own, " + _INDENTATION
    )


def _line_without_colon(complaint: _Complaint, number: int) -> Problem:
    text = complaint.line_at(number)
    column = len(text) - len(text.lstrip()) + 1
    if found := _NO_SPACE_AFTER_COLON.match(text):
        return _missing_space(number, found)
    return Problem(number + 1, column, (), "this line has no `key: value`", "write a colon and a space after the key")


def _missing_space(number: int, found: re.Match[str]) -> Problem:
    what = f"no space after the colon of {ticked(found['key'])}"
    return Problem(number + 1, found.end("key") + 2, (), what, f"write `{one_line(found['key'])}: ...`")


def _above(complaint: _Complaint) -> Problem | None:
    """Return what is wrong with the line above, if this one is only where it came out."""
    number = complaint.line - 1
    while number > 0 and not complaint.line_at(number).strip():
        number -= 1
    above = complaint.line_at(number)
    if number < 0:
        return None
    if found := _NO_SPACE_AFTER_COLON.fullmatch(above):
        return _missing_space(number, found)
    deeper = _width(complaint.text) > _width(above)
    if deeper and _KEY_AND_VALUE.match(above):
        what = "this line is indented deeper than the one above, which has a value already"
        return Problem(complaint.line + 1, _width(complaint.text) + 1, (), what, _INDENTATION)
    if above.strip() and ":" not in above:
        return _line_without_colon(complaint, number)
    return None


def _width(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _start(complaint: _Complaint) -> Problem | None:
    if "cannot start any token" not in complaint.problem:
        return None
    character = complaint.text[complaint.column :][:1]
    return complaint.here(f"a value cannot begin with {ticked(character)}", "put the value in quotes")


def _structure(complaint: _Complaint) -> Problem | None:
    if "block mapping" in complaint.context or "block collection" in complaint.context:
        return _block(complaint)
    if "entries are not allowed" in complaint.problem:
        return complaint.here("a list item `- ` stands behind a key", "put each item on a line of its own")
    rest = complaint.text[complaint.column :]
    if "node content" in complaint.problem or "node content" in complaint.context:
        return complaint.here(f"a value is wanted here, not {ticked(rest[:1] or 'the end')}", "write it, or quote it")
    if "document start" in complaint.problem:
        return complaint.here("text that belongs to nothing", _INDENTATION)
    return None


def _block(complaint: _Complaint) -> Problem | None:
    before, rest = complaint.text[: complaint.column], complaint.text[complaint.column :]
    if before.rstrip().endswith(('"', "'")):
        return complaint.here(
            "text after the closing quote", "put the whole value in quotes; write a quote in it twice"
        )
    if before.strip():
        return complaint.here(f"{ticked(rest[:1] or 'the end')} does not belong here", "put the value in quotes")
    if "collection" in complaint.context:
        return complaint.here("this line is no item (`- `) of the list above it", _INDENTATION)
    if rest.startswith("-"):
        return complaint.here("a list item `- ` among the keys of a mapping", _INDENTATION)
    return complaint.here("the indentation fits no line above", _INDENTATION)


def _small_print(complaint: _Complaint) -> Problem | None:
    problem = complaint.problem
    if "escape" in problem or "hex" in problem:
        return complaint.here("a backslash that YAML does not know", "write \\\\ for a backslash, or use single quotes")
    if "tag" in complaint.context or "tag" in problem:
        return complaint.at_context("a tag that cannot be read", "take it out; quote a value that begins with `!`")
    if "an alias" in complaint.context or "an anchor" in complaint.context:
        return complaint.at_context("a name is wanted after `&` or `*`", "quote a value that begins with `&` or `*`")
    if "document" in problem or "directive" in problem or "directive" in complaint.context:
        return complaint.here("a `%` line that is not known", "take it out")
    if "block scalar" in complaint.context:
        return complaint.here("text behind `|` or `>`", "begin the text on the next line, indented")
    return None
