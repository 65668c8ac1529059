"""GPU: each card."""

from corral_dashboards.view import Dashboard, lines

_CARD = '{host=~"$host", gpu=~"$gpu"}'
_NAME = "{{host}} {{gpu}}"


def _card(metric: str) -> str:
    return f"max by (host, gpu) ({metric}{_CARD})"


GPU = Dashboard(
    "corral-gpu",
    "GPU",
    "Each card: what it does, draws and suffers. A card that two servers share is drawn once.",
    ("host", "gpu"),
    (
        lines("Utilisation", "percentunit", (f"corral:gpu_utilization:max{_CARD}", _NAME)),
        lines("Memory in use", "percentunit", (f"corral:gpu_memory_used:ratio{_CARD}", _NAME)),
        lines("Memory bandwidth in use", "percentunit", (_card("gpu_memory_utilization_ratio"), _NAME)),
        lines(
            "Power", "watt",
            (f"corral:gpu_power_watts:max{_CARD}", _NAME), (_card("gpu_power_limit_watts"), f"{_NAME} limit"),
        ),
        lines("Temperature", "celsius", (f"corral:gpu_temperature_celsius:max{_CARD}", _NAME)),
        lines(
            "Slowed down", "short",
            ('max by (host, gpu, reason) (gpu_throttled{host=~"$host", gpu=~"$gpu"})', f"{_NAME} {{{{reason}}}}"),
            about="sw_power_cap is the power limit that was set, and no fault.",
        ),
        lines(
            "Clocks", "hertz",
            ('max by (host, gpu, domain) (gpu_clock_hertz{host=~"$host", gpu=~"$gpu"})', f"{_NAME} {{{{domain}}}}"),
        ),
        lines("PCIe lanes", "short", (_card("gpu_pcie_link_width"), _NAME)),
        lines("PCIe generation", "short", (_card("gpu_pcie_link_generation"), _NAME)),
        lines(
            "Energy for 1,000 tokens", "joule",
            (f"corral:gpu_energy_joules_per_1000_tokens:rate5m{_CARD}", _NAME),
            about="Power of the card over the tokens that its servers generate.",
        ),
        lines("Tokens generated", "short", (f"corral:gpu_tokens_out:rate5m{_CARD}", _NAME)),
        lines(
            "ECC errors", "short",
            ('max by (host, gpu, kind) (gpu_ecc_errors_total{host=~"$host", gpu=~"$gpu"})', f"{_NAME} {{{{kind}}}}"),
        ),
        lines(
            "Xid errors", "short",
            ('max by (host, gpu, xid) (gpu_xid_errors_total{host=~"$host", gpu=~"$gpu"})', f"{_NAME} Xid {{{{xid}}}}"),
            about="Empty until the driver reports one.",
        ),
    ),
)  # fmt: skip
