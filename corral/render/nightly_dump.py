"""The service `backup` of the gate's compose file: a dump of its database each night, kept in a volume of its own."""

from corral.farm import secret_names
from corral.render.compose import Service, Variable, Volume, hardened, mounted

BACKUP = "backup"
SCRIPTS = "/app/corral/scripts"
DUMPS = "/var/lib/postgresql/data"
"""Where the image has a folder of PostgreSQL's user: a new volume takes its owner from there."""
VOLUME = "dumps"
AT_UTC = "03:15"
KEEP = "14"


def scripts() -> Volume:
    """Return the mount of litellm/scripts, of which some are a container's entry."""
    return mounted(Variable("CORRAL_SCRIPTS", default="./scripts"), SCRIPTS)


def nightly_dump(image: str, user: str) -> Service:
    """Return the service: PostgreSQL's own image, so that its pg_dump is never older than the server.

    Args:
        image: PostgreSQL's.
        user: of that image, who owns what it writes.
    """
    script = f"{SCRIPTS}/nightly.sh"
    return hardened({
        "image": image,
        "user": user,
        "entrypoint": ["bash", script],
        "environment": {
            "PGHOST": "postgres",
            "PGPASSWORD": Variable(secret_names.DATABASE_PASSWORD),
            "BACKUP_FOLDER": DUMPS,
            "BACKUP_AT": Variable("BACKUP_AT", default=AT_UTC),
            "BACKUP_KEEP": Variable("BACKUP_KEEP", default=KEEP),
        },
        "volumes": [
            {"type": "volume", "source": VOLUME, "target": DUMPS},
            scripts(),
        ],
        "depends_on": {"postgres": {"condition": "service_healthy", "required": True}},
        "healthcheck": {
            "test": ["CMD", "bash", script, "--check"],
            "interval": "10s",
            "timeout": "10s",
            "retries": 3,
            "start_period": "300s",
        },
        "mem_limit": "256m",
        "pids_limit": 64,
        "stop_grace_period": "30s",
    })  # fmt: skip
