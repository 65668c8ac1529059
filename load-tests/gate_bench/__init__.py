"""`make bench-gate`: what each way from a client to a llama-server costs, all of them in one run."""
