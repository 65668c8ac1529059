"""`corral capacity`: how many requests a minute each model bears before an objective breaks, and what follows from it.

Requests come at random moments at a given rate, whether earlier ones were answered or not (open loop): users do not
wait for one another, and a client that does would hide the queue it makes. `arrivals` and `workload` say what is sent
when, `trial` sends it and measures, `beside` looks at servers and processes meanwhile, `verdict` holds that against the
objectives, `search` chooses the next rate, `finding` says what follows, `record` keeps it, `farm_file` writes it into
corral.yaml, `plot` draws it.
"""
