"""Supervises one llama-server on one GPU: relaying, readiness, restarts and metrics."""
