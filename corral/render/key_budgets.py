"""What PostgreSQL's exporter is told to read of the gate's keys: spend beside budget.

LiteLLM 1.106.2 has gauges of its own for that, and they do not serve: after each request it writes what the key had
spent when it was last read from the database, up to a minute ago, less this one request, so that a burst shows as its
last request; with several workers each has its own; and its job that reads all of them anew never ran here. The
database has one truth, some ten seconds old.

`--extend.query-path` is deprecated since exporter 0.13 and there in the version that is pinned.
"""

from corral.render.document import Rendered, yaml_file

MOST_KEYS = 5000
"""Those nearest to their budgets: a farm with more keys than that makes no more series."""

_QUERY = f"""
SELECT COALESCE(key_alias, '') AS api_key_alias, left(token, 16) AS key, spend AS spend_dollars,
       max_budget AS budget_dollars
FROM "LiteLLM_VerificationToken"
WHERE max_budget > 0 AND (expires IS NULL OR expires > now()) AND blocked IS NOT TRUE
ORDER BY spend / max_budget DESC
LIMIT {MOST_KEYS}
"""  # noqa: S608  # a number of ours


def queries(path: str) -> Rendered:
    """Return the exporter's file of queries."""
    columns = (
        ("api_key_alias", "LABEL", "The key's name."),
        ("key", "LABEL", "The first digits of its hash, as in the gate's log."),
        ("spend_dollars", "GAUGE", "What it has spent since its budget began."),
        ("budget_dollars", "GAUGE", "What it may spend."),
    )
    metrics = [{name: {"usage": usage, "description": meaning}} for name, usage, meaning in columns]
    return yaml_file(path, {"corral_key": {"query": " ".join(_QUERY.split()), "metrics": metrics}})
