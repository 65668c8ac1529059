"""Migrates the database of DATABASE_URL, then becomes LiteLLM with the arguments given, as the official image does."""

import os
import sys

from litellm_embedded.database_url import DatabaseUrl
from litellm_embedded.migrations import prepare_database
from litellm_embedded.node import find_node
from litellm_embedded.proxy import proxy_environment

prepare_database(DatabaseUrl.parse(os.environ["DATABASE_URL"]), 60, lambda line: print(line, flush=True))
command = [sys.executable, "-P", "-m", "litellm_embedded.launcher", *sys.argv[1:], "--telemetry", "False"]
os.execve(command[0], command, proxy_environment(os.environ, find_node()))  # noqa: S606 - becoming LiteLLM is the purpose
