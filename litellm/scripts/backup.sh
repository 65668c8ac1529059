#!/usr/bin/env bash
# Dumps the gate's database: keys, teams, budgets, spend. Run it in the folder with the gate's compose.yaml, or name that.
set -euo pipefail

usage() {
    cat <<'END'
Usage: backup.sh [--to FOLDER] [--keep N] [FOLDER]

FOLDER holds the gate's compose.yaml and .env (default: here). PostgreSQL must run; the gate may.

  --to FOLDER   where dumps go (default: FOLDER/backups; mode 700, dumps 600)
  --keep N      how many are kept, the oldest go first (default 14)

A dump is of no use without LITELLM_SALT_KEY of .env, with which LiteLLM encrypts what it keeps: back .env up as well,
and elsewhere. The service `backup` of the gate's compose.yaml makes one each night by itself (nightly.sh).

Exit codes: 0 a whole dump is there, 1 it is not and no older one was touched, 2 wrong arguments.
END
}

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

folder=.
to=
keep=14
while [ $# -gt 0 ]; do
    case $1 in
    --to | --keep)
        [ $# -ge 2 ] || fail "$1 needs a value" "see --help" 2
        if [ "$1" = --to ]; then to=$2; else keep=$2; fi
        shift
        ;;
    --help | -h)
        usage
        exit 0
        ;;
    -*) fail "$1 is no option" "see --help" 2 ;;
    *) folder=$1 ;;
    esac
    shift
done
check_count --keep "$keep"
find_compose "$folder"
to=${to:-$folder/backups}
mkdir -p "$to"
chmod 700 "$to"

dump=$to/$(dump_name)
trap 'rm -f "$dump.new"' EXIT
umask 077
"${compose[@]}" exec -T postgres pg_dump --username litellm --format custom litellm >"$dump.new" ||
    fail "pg_dump failed" "see above; does PostgreSQL run? docker compose ps"
"${compose[@]}" exec -T postgres pg_restore --list <"$dump.new" | lists_keys ||
    fail "the dump holds no keys" "it was not kept; was LiteLLM ever started on this database?"
mv "$dump.new" "$dump"
keep_newest "$to" "$keep"
printf '%s (%s bytes)\n' "$dump" "$(stat -c %s "$dump")"
