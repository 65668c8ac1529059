#!/usr/bin/env bash
# Puts a dump of backup.sh or of the service `backup` in the place of the gate's database. What is there is dumped first;
# the gate stops meanwhile.
set -euo pipefail

usage() {
    cat <<'END'
Usage: restore.sh [--yes] DUMP [FOLDER]

FOLDER holds the gate's compose.yaml and .env (default: here). .env must have the LITELLM_SALT_KEY of the dump's time.

  --yes   do not ask

Examples:
  scripts/restore.sh backups/litellm-20261120T031500Z.dump
  docker compose cp backup:/var/lib/postgresql/data/. dumps/ && scripts/restore.sh dumps/litellm-20261120T031500Z.dump

What is there is dumped beside DUMP first. The dump goes into a database of its own, which takes the other's place only
when it is whole: a dump that cannot be read changes nothing. The earlier database is removed when the gate is ready.
Exit codes: 0 restored, 1 not, and the earlier database is in use, 2 wrong arguments.
END
}

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

yes=no
words=()
while [ $# -gt 0 ]; do
    case $1 in
    --yes) yes=yes ;;
    --help | -h)
        usage
        exit 0
        ;;
    -*) fail "$1 is no option" "see --help" 2 ;;
    *) words+=("$1") ;;
    esac
    shift
done
[ ${#words[@]} -ge 1 ] || fail "no dump is named" "see --help" 2
dump=${words[0]}
folder=${words[1]:-.}
[ -r "$dump" ] || fail "$dump cannot be read" "name a dump of backup.sh or of the service backup" 2
find_compose "$folder"

sql() { "${compose[@]}" exec -T postgres psql --username litellm --dbname "$1" --no-psqlrc --quiet --set ON_ERROR_STOP=1 --command "$2"; }

rename() { # database, to: whoever is connected is sent away, since a database in use keeps its name
    sql postgres "ALTER DATABASE $1 ALLOW_CONNECTIONS false"
    sql postgres "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '$1'" >/dev/null
    sql postgres "ALTER DATABASE $1 RENAME TO $2"
    sql postgres "ALTER DATABASE $2 ALLOW_CONNECTIONS true"
}

"${compose[@]}" up --detach --wait postgres >/dev/null 2>&1 || fail "PostgreSQL does not come up" "docker compose logs postgres says why"
"${compose[@]}" exec -T postgres pg_restore --list <"$dump" | lists_keys ||
    fail "$dump is no dump of a gate's database" "name one that backup.sh or the service backup made" 2
if [ "$yes" = no ]; then
    [ -t 0 ] || fail "this replaces the gate's keys and spend, and cannot ask here" "say --yes if you mean it" 2
    read -r -p "Replace the gate's keys, budgets and spend by those of $dump? [y/N] " answer
    [ "$answer" = y ] || exit 1
fi

echo "reading $dump into a database of its own"
sql postgres 'DROP DATABASE IF EXISTS litellm_new' 2>/dev/null
sql postgres 'CREATE DATABASE litellm_new'
if ! "${compose[@]}" exec -T postgres pg_restore --username litellm --dbname litellm_new --no-owner --exit-on-error <"$dump"; then
    sql postgres 'DROP DATABASE litellm_new'
    fail "the dump cannot be read to its end" "the gate's database is as it was; try an earlier dump"
fi

echo "stopping the gate, and keeping what is there"
"${compose[@]}" stop litellm
before=$(dirname "$dump")/before-restore-$(date -u +%Y%m%dT%H%M%SZ).dump
(umask 077 && "${compose[@]}" exec -T postgres pg_dump --username litellm --format custom litellm >"$before") ||
    fail "what is there cannot be dumped" "nothing was replaced; start the gate: docker compose up -d"
rename litellm litellm_before
rename litellm_new litellm

echo "starting the gate"
if "${compose[@]}" up --detach --wait --wait-timeout 300 litellm; then
    sql postgres 'DROP DATABASE litellm_before'
    printf 'restored; what was there before is in %s\n' "$before"
    exit 0
fi
"${compose[@]}" stop litellm
rename litellm litellm_new
rename litellm_before litellm
sql postgres 'DROP DATABASE litellm_new'
"${compose[@]}" up --detach litellm
fail "the gate does not come up with $dump" "the earlier database is back in its place; docker compose logs litellm says why"
