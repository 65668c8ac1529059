"""Profiles: a short one for every day, `long` for `make fuzz`."""

from datetime import timedelta

from hypothesis import HealthCheck, Phase, settings

settings.register_profile("daily", max_examples=150, deadline=timedelta(seconds=2))
settings.register_profile(
    "long", max_examples=5_000, deadline=timedelta(seconds=2), suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)  # fmt: skip
settings.load_profile("daily")
