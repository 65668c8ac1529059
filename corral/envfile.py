"""Reading `.env` files."""


def parse_env(text: str) -> dict[str, str]:
    """Return the variables of an `.env` file: KEY=value lines, `#` comments, optional `export` and quotes."""
    variables = {}
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not name.startswith("#"):
            value = value.strip()
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
            variables[name.strip()] = value[1:-1] if quoted else value
    return variables
