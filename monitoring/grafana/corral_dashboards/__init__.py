"""Grafana's dashboards as code: each module names its panels, `build` turns them into Grafana's JSON."""
