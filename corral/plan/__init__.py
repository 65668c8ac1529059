"""`corral plan`: what every server of a farm takes of its GPU and its host, what does not fit, and what would mend it.

`headers` gets each model's header, `plan.plan` reckons (pure), `table` and `document` show it, `cli` is the command.
"""
