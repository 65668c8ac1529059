"""`corral report`: a page about the last hours or days of a farm, from Prometheus, that needs nothing beside itself."""
