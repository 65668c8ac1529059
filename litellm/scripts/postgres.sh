#!/usr/bin/env bash
# The entry of the service `postgres`: PostgreSQL's own, once it is sure that this PostgreSQL can use what the volume
# holds. Of a newer version's folder PostgreSQL itself may only say that it does not know a setting, and Docker would
# start it again ten times in two minutes.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

linger_where_it_fails

own=$(postgres --version | sed -E 's/[^0-9]*([0-9]+).*/\1/')
if [ -s "$PGDATA/PG_VERSION" ]; then
    kept=$(cat "$PGDATA/PG_VERSION")
    [ "$kept" = "$own" ] || fail "the volume holds a database of PostgreSQL $kept, and this is PostgreSQL $own" \
        "nothing was changed: put an image of PostgreSQL $kept back, or move the database as docs/upgrades.md says"
fi
[ -w "$PGDATA" ] || fail "$PGDATA cannot be written to by user $(id -u)" "give the volume to that user, or remove it while it is empty"
trap - EXIT TERM INT
exec docker-entrypoint.sh postgres
