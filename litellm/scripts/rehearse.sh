#!/usr/bin/env bash
# Tries another LiteLLM on a copy of the gate's database, before the gate itself is changed. The gate goes on meanwhile.
set -euo pipefail

usage() {
    cat <<'END'
Usage: rehearse.sh DUMP IMAGE [FOLDER]

  DUMP     of backup.sh or of the service backup: the state to come back to
  IMAGE    of the LiteLLM to try; pulled if it is not here
  FOLDER   holds the gate's compose.yaml and .env (default: here); PostgreSQL must run

Example: scripts/rehearse.sh backups/litellm-20261120T031500Z.dump ghcr.io/berriai/litellm-database:v1.106.3

DUMP is read into a database of its own. IMAGE migrates that and must list the keys; then the image that runs now is
started on what became of it, which says whether the way back is the image alone, or needs DUMP too. Both take as much
memory as the gate, one after the other, and are removed with the copy.
Exit codes: 0 IMAGE can take over, 1 it cannot, and nothing was changed, 2 wrong arguments.
END
}

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

COPY=litellm_rehearsal
NAME=corral-rehearsal-$$
PORT=4999 # inside its container, or on the loopback where the gate uses its host's network
START_S=300

case ${1:-} in
--help | -h)
    usage
    exit 0
    ;;
-*) fail "$1 is no option" "see --help" 2 ;;
esac
[ $# -ge 2 ] && [ $# -le 3 ] || fail "a dump and an image are wanted" "see --help" 2
dump=$1
image=$2
folder=${3:-.}
[ -r "$dump" ] || fail "$dump cannot be read" "name a dump of backup.sh or of the service backup" 2
[[ $image =~ ^[A-Za-z0-9][A-Za-z0-9./:@_-]*$ ]] || fail "$image is no name of an image" "give one like ghcr.io/berriai/litellm-database:v1.106.3" 2
find_compose "$folder"

in_postgres() { "${compose[@]}" exec -T postgres "$@"; }
sql() { in_postgres psql --username litellm --dbname "$1" --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 --command "$2"; }

work=$(mktemp -d)
clear_up() {
    docker rm --force "$NAME" >/dev/null 2>&1 || true
    sql postgres "DROP DATABASE IF EXISTS $COPY WITH (FORCE)" 2>/dev/null || true
    rm -rf "$work"
}
trap clear_up EXIT

in_postgres pg_restore --list <"$dump" | lists_keys ||
    fail "$dump is no dump of a gate's database, or PostgreSQL does not run" "name one that backup.sh or the service backup made; docker compose ps" 2
running=$("${compose[@]}" ps --quiet litellm)
[ -n "$running" ] || fail "the gate does not run" "start it: its image is the way back that is tried"
present=$(docker inspect --format '{{.Config.Image}}' "$running")
url=$(docker inspect --format '{{range .Config.Env}}{{println .}}{{end}}' "$running" | sed -n 's/^DATABASE_URL=//p')

echo "reading $dump into $COPY"
sql postgres "DROP DATABASE IF EXISTS $COPY WITH (FORCE)" 2>/dev/null
sql postgres "CREATE DATABASE $COPY"
in_postgres pg_restore --username litellm --dbname "$COPY" --no-owner --exit-on-error <"$dump" ||
    fail "the dump cannot be read to its end" "make another: backup.sh"
keys=$(sql "$COPY" 'SELECT count(*) FROM "LiteLLM_VerificationToken"')

LIST_KEYS="
import json, os, urllib.request as request
def get(path):
    headers = {'Authorization': 'Bearer ' + os.environ['LITELLM_MASTER_KEY']}
    return json.load(request.urlopen(request.Request('http://127.0.0.1:$PORT' + path, headers=headers), timeout=20))
get('/health/readiness')
print(get('/key/list?size=1')['total_count'])
"
tried() { # image: whether it migrates the copy and lists its keys; says why not
    local state deadline
    printf 'services: {litellm: {image: "%s", restart: "no"}}\n' "$1" >"$work/image.yaml"
    "${compose[@]}" --file "$work/image.yaml" run --detach --no-deps --name "$NAME" --env DATABASE_URL="${url%/*}/$COPY" \
        litellm --config /app/corral/config.yaml --num_workers 1 --host 127.0.0.1 --port "$PORT" >/dev/null || return 1
    deadline=$((SECONDS + START_S))
    until listed=$(docker exec "$NAME" python3 -c "$LIST_KEYS" 2>"$work/why"); do
        state=$(docker inspect --format '{{.State.Status}}' "$NAME")
        if [ "$state" != running ] || [ $SECONDS -ge $deadline ]; then
            docker logs --tail 5 "$NAME" >&2
            tail -n 1 "$work/why" >&2
            return 1
        fi
        sleep 1
    done
    docker rm --force "$NAME" >/dev/null
    [ "$(sql "$COPY" 'SELECT count(*) FROM _prisma_migrations WHERE finished_at IS NULL AND rolled_back_at IS NULL')" = 0 ] ||
        { echo "a migration was begun and not finished" >&2 && return 1; }
    [ "$keys" = 0 ] || [ "$listed" != 0 ] || { echo "it lists none of $keys keys" >&2 && return 1; }
}

before=$(sql "$COPY" 'SELECT count(*) FROM _prisma_migrations')
echo "starting $image on it"
tried "$image" || fail "$image cannot take over this database" "stay with $present; the lines above say why"
after=$(sql "$COPY" 'SELECT count(*) FROM _prisma_migrations')
printf '%s made %s migrations and lists the keys (%s)\n' "$image" "$((after - before))" "$keys"
echo "starting $present on what became of it"
if tried "$present"; then
    printf 'ready: to come back, put %s into corral.yaml again; the database can stay\n' "$present"
else
    docker rm --force "$NAME" >/dev/null 2>&1 || true
    printf 'ready: to come back, put %s into corral.yaml again and restore %s, since it cannot use the migrated database\n' "$present" "$dump"
fi
