"""`corral top`: what the farm does now, asked of its servers themselves; no monitoring is needed."""
