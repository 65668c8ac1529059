"""LiteLLM's key API as a handler for `httpx.MockTransport`: the fields and error bodies of LiteLLM 1.106.2, no more.

For what the command does with answers, and for faults. The e2e tests say the same things to a real LiteLLM. As there,
`/key/generate` answers no `budget_reset_at`.
"""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

MASTER_KEY = "sk-master-1234"


def proxy_error(status: int, message: str, param: str | None = None) -> httpx.Response:
    """As LiteLLM's ProxyException is sent."""
    body = {"message": message, "type": "bad_request_error", "param": param, "code": str(status)}
    return httpx.Response(status, json={"error": body})


class FakeLiteLLMKeys:
    """Keeps keys in memory. `broken` is given instead of any answer when set."""

    def __init__(self, models: tuple[str, ...] = ("chat", "embed")) -> None:
        self.models = models
        self.rows: list[dict[str, Any]] = []
        self.requests: list[httpx.Request] = []
        self.broken: httpx.Response | Exception | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if isinstance(self.broken, Exception):
            raise self.broken
        if self.broken is not None:
            return self.broken
        if request.headers.get("authorization") != f"Bearer {MASTER_KEY}":
            return proxy_error(
                401, "Authentication Error, Invalid proxy server token passed. Received API Key = sk-..."
            )
        match request.method, request.url.path:
            case "GET", "/v1/models":
                return httpx.Response(200, json={"data": [{"id": name} for name in self.models], "object": "list"})
            case "POST", "/key/generate":
                return self._generate(json.loads(request.content))
            case "GET", "/key/list":
                return self._list(request.url.params)
            case "POST", "/key/delete":
                return self._delete(json.loads(request.content)["keys"])
            case _:
                return httpx.Response(404, json={"detail": "Not Found"})

    def add(self, **fields: Any) -> str:
        """Put a key there and return it."""
        key = f"sk-{len(self.rows):018d}test"
        row = {
            "token": hashlib.sha256(key.encode()).hexdigest(),
            "key_name": f"sk-...{key[-4:]}",
            "key_alias": None,
            "models": [],
            "spend": 0.0,
            "max_budget": None,
            "budget_duration": None,
            "budget_reset_at": None,
            "rpm_limit": None,
            "tpm_limit": None,
            "max_parallel_requests": None,
            "expires": None,
            "blocked": None,
            "created_at": "2026-11-21T10:00:00.000000Z",
            **fields,
        }
        self.rows.insert(0, row)
        return key

    def paths(self) -> list[str]:
        return [request.url.path for request in self.requests]

    def _generate(self, body: dict[str, Any]) -> httpx.Response:
        alias = body.get("key_alias")
        if alias is not None and any(row["key_alias"] == alias for row in self.rows):
            message = f"Key with alias '{alias}' already exists. Unique key aliases across all keys are required."
            return proxy_error(400, message, "key_alias")
        days = int(body["duration"].removesuffix("d")) if "duration" in body else None
        fields = {name: body[name] for name in body if name not in ("duration", "key_type")}
        if days is not None:
            fields["expires"] = (datetime.now(UTC) + timedelta(days=days)).isoformat()
        key = self.add(**fields)
        row = self.rows[0]
        return httpx.Response(200, json={**row, "key": key, "token_id": row["token"], "token": None})

    def _list(self, params: httpx.QueryParams) -> httpx.Response:
        rows = [
            row
            for row in self.rows
            if params.get("key_hash") in (None, row["token"]) and params.get("key_alias") in (None, row["key_alias"])
        ]
        page, size = int(params["page"]), int(params["size"])
        body = {
            "keys": rows[(page - 1) * size : page * size],
            "total_count": len(rows),
            "current_page": page,
            "total_pages": -(-len(rows) // size),
        }
        return httpx.Response(200, json=body)

    def _delete(self, ids: list[str]) -> httpx.Response:
        if not any(row["token"] in ids for row in self.rows):
            return proxy_error(404, "{'error': 'No keys found'}")
        self.rows = [row for row in self.rows if row["token"] not in ids]
        return httpx.Response(200, json={"deleted_keys": ids})
