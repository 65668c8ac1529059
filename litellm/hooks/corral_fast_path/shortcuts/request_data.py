"""What LiteLLM writes into a request before anything looks at it: some sixty entries about its key and its client.

It puts them together from the key, the headers and its settings. For a key that is known again (`recognition`) and a
client that sends the same headers again they are the same, but for those below. They are taken over once LiteLLM has
shown that: what was taken from the request before must equal what LiteLLM makes of this one.
"""

from collections import OrderedDict
from collections.abc import Mapping
from time import time
from typing import Any, NamedTuple

from litellm.proxy import common_request_processing
from litellm.proxy.common_utils.callback_utils import strip_callback_config
from litellm.proxy.common_utils.http_parsing_utils import safe_get_request_headers
from litellm.proxy.litellm_pre_call_utils import refresh_proxy_server_request_body_snapshot
from litellm.types.proxy.litellm_pre_call_utils import RedactedDict, SecretFields

from corral_fast_path import recognition

MOST = 1000

_of_litellm = common_request_processing.add_litellm_data_to_request
_known: "OrderedDict[_Client, _Entries]" = OrderedDict()


class _Client(NamedTuple):
    """By what entries are known: of what a request says, they depend on nothing else."""

    name: recognition.Name
    scheme: str
    address: str
    headers: tuple[tuple[bytes, bytes], ...]


class _Entries(NamedTuple):
    """What LiteLLM wrote into a request.

    Attributes:
        record: of the key. Where recognition has another one LiteLLM is asked again.
        shown: whether LiteLLM has written the same into another request.
        request: `proxy_server_request`, what LiteLLM logs of a request.
        metadata: of the request.
        requester: the metadata as they were before LiteLLM wrote about the key.
        headers: names of those that may be logged.
        in_body: which of the metadata LiteLLM logs as part of the request's body: it does so before it has all.
        changeable: metadata that can be changed in place.
    """

    record: object
    shown: bool
    request: Mapping[str, Any]
    metadata: Mapping[str, Any]
    requester: Mapping[str, Any]
    headers: frozenset[str]
    in_body: tuple[str, ...]
    changeable: tuple[str, ...]

    def write(self, data: dict[str, Any], request: Any, user: Any) -> dict[str, Any]:
        """Write them into another request, as LiteLLM does, and return it."""
        raw = safe_get_request_headers(request)
        headers = {name: value for name, value in raw.items() if name in self.headers}
        received = getattr(request.state, "litellm_received_at", None)
        arrival = received.timestamp() if received is not None else time()
        data["proxy_server_request"] = {**self.request, "headers": headers, "arrival_time": arrival}
        metadata = data["metadata"] = {**self.metadata}
        for name in self.changeable:
            metadata[name] = metadata[name].copy()
        metadata["headers"] = headers
        metadata["requester_metadata"] = {**self.requester, "headers": {**headers}}
        metadata["litellm_received_at"] = received
        metadata["user_api_key_spend"] = user.spend
        metadata["user_api_key_auth"] = user.model_copy(
            update={name: strip_callback_config(getattr(user, name)) for name in _OF_OWNERS}
        )
        refresh_proxy_server_request_body_snapshot(data)
        data["proxy_server_request"]["body"]["metadata"] = {name: metadata[name] for name in self.in_body}
        data["secret_fields"] = SecretFields(raw_headers=RedactedDict(raw))
        return data


_OF_OWNERS = ("metadata", "team_metadata", "project_metadata", "organization_metadata")


async def _add(
    data: dict[str, Any],
    request: Any,
    user_api_key_dict: Any,
    proxy_config: Any,
    general_settings: Any = None,
    version: str | None = None,
) -> Any:
    record = recognition.record_of(request)
    if record is None or data.get("metadata") != {}:
        return await _asked(data, request, user_api_key_dict, proxy_config, general_settings, version)
    client = _client(request, record.name)
    known = _known.get(client)
    if known is not None and known.shown and known.record is record:
        return known.write(data, request, user_api_key_dict)
    sent = {**data, "metadata": {}}
    made = await _asked(data, request, user_api_key_dict, proxy_config, general_settings, version)
    shown = known is not None and known.write({**sent}, request, user_api_key_dict) == made
    _remember(client, _entries(record, sent, made, shown=shown))
    return made


async def _asked(
    data: dict[str, Any], request: Any, user: Any, proxy_config: Any, general_settings: Any, version: str | None
) -> Any:
    return await _of_litellm(
        data=data,
        request=request,
        user_api_key_dict=user,
        proxy_config=proxy_config,
        general_settings=general_settings,
        version=version,
    )


def _client(request: Any, name: recognition.Name) -> _Client:
    scope = request.scope
    address = scope.get("client") or ("",)
    headers = tuple(header for header in scope["headers"] if header[0] != b"content-length")
    return _Client(name, scope.get("scheme", ""), address[0], headers)


def _entries(record: object, sent: Mapping[str, Any], made: Mapping[str, Any], *, shown: bool) -> _Entries | None:
    """Return what LiteLLM has written; None if it has changed the request itself, or the headers that it logs."""
    if made.keys() - sent.keys() != {"proxy_server_request", "secret_fields"}:
        return None
    if any(made.get(name) is not value for name, value in sent.items() if name != "metadata"):
        return None
    metadata, raw = made["metadata"], made["secret_fields"]["raw_headers"]
    headers, requester = metadata.get("headers"), metadata.get("requester_metadata")
    in_body = made["proxy_server_request"]["body"].get("metadata")
    if not all(isinstance(one, dict) for one in (headers, requester, in_body)):
        return None
    if any(raw.get(name) != value for name, value in headers.items()):
        return None
    if any(isinstance(value, list | dict | set) for name, value in requester.items() if name != "headers"):
        return None
    containers = tuple(name for name, value in metadata.items() if isinstance(value, list | dict | set))
    return _Entries(
        record,
        shown,
        {**made["proxy_server_request"], "body": None},
        {name: value.copy() if name in containers else value for name, value in metadata.items()},
        {**requester},
        frozenset(headers),
        tuple(in_body),
        containers,
    )


def _remember(client: _Client, entries: _Entries | None) -> None:
    if entries is None:
        _known.pop(client, None)
        return
    _known[client] = entries
    _known.move_to_end(client)
    if len(_known) > MOST:
        _known.popitem(last=False)


def install() -> None:
    """Put it in the place of LiteLLM's."""
    common_request_processing.add_litellm_data_to_request = _add
