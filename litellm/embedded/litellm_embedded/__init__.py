"""LiteLLM with its own key management on one machine: PostgreSQL, migrations and the Prisma engine from packages."""
