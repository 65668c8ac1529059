"""`corral monitoring`: Prometheus, Alertmanager and exporters beside the farm of one machine, run by its keeper."""
