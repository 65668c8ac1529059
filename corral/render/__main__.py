"""`python -m corral.render`: the command by itself."""

import sys

from corral.errors import CorralError
from corral.render.cli import app

try:
    app(prog_name="corral render")
except CorralError as error:
    sys.stderr.write(f"error: {error}\n")
    sys.exit(error.exit_code)
