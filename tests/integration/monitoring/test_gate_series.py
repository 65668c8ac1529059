"""LiteLLM's own callback with what the gate tells it: thousands of keys do not become thousands of series."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from corral.render.gate_metrics import SERIES_PER_METRIC

pytestmark = pytest.mark.integration

KEYS = SERIES_PER_METRIC + 1000

PROGRAM = f"""
import json
import litellm
from corral.render.gate_metrics import SETTINGS
for name, value in SETTINGS.items():
    assert hasattr(litellm, name), name
    setattr(litellm, name, value)
from litellm.integrations.prometheus import PrometheusLogger
from prometheus_client import REGISTRY
logger = PrometheusLogger()
for key in range({KEYS}):
    alias = f"key-{{key}}"
    logger.litellm_spend_metric.labels(api_key_alias=alias, requested_model="chat", model_id="chat-1").inc(2)
logger.increment_deployment_cooled_down("hosted_vllm/chat", "chat-1", "http://127.0.0.1:1", "hosted_vllm", "503")
families = {{
    family.name: [sample for sample in family.samples if not sample.name.endswith("_created")]
    for family in REGISTRY.collect()
}}
spend = families["litellm_spend_metric"]
print(json.dumps({{
    "cooled_down": [sample.labels["model_id"] for sample in families["litellm_deployment_cooled_down"]],
    "spend_series": len(spend),
    "spend": sum(sample.value for sample in spend),
    "metrics": sorted(name for name in families if name.startswith("litellm_")),
    "labels": sorted({{label for samples in families.values() for sample in samples for label in sample.labels}}),
}}))
"""


def test_keys_without_end_make_no_series_without_end_and_sums_stay_true(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
        env={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found["cooled_down"]) == {"chat-1"}  # the server, and not the model
    assert found["spend_series"] == SERIES_PER_METRIC + 1  # and one for all others
    assert found["spend"] == 2 * KEYS
    assert len(found["metrics"]) < 20
    assert not {"client_ip", "user_agent", "user_email", "end_user"} & set(found["labels"])
