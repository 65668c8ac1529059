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
and elsewhere. A line in a crontab makes it nightly:

  15 3 * * *  cd /srv/corral/litellm && scripts/backup.sh

Exit codes: 0 a whole dump is there, 1 it is not and no older one was touched, 2 wrong arguments.
END
}
fail() {
    printf 'error: %s; %s\n' "$1" "$2" >&2
    exit "${3:-1}"
}

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
[[ $keep =~ ^[1-9][0-9]{0,3}$ ]] || fail "--keep $keep is no number from 1 to 9999" "give one like 14" 2
[ -f "$folder/compose.yaml" ] || fail "$folder holds no compose.yaml" "give the folder of the gate's" 2
to=${to:-$folder/backups}
mkdir -p "$to"
chmod 700 "$to"

compose=(docker compose --project-directory "$folder" --file "$folder/compose.yaml")
dump=$to/litellm-$(date -u +%Y%m%dT%H%M%SZ).dump
trap 'rm -f "$dump.new"' EXIT
umask 077
"${compose[@]}" exec -T postgres pg_dump --username litellm --format custom litellm >"$dump.new" ||
    fail "pg_dump failed" "see above; does PostgreSQL run? docker compose ps"
# What pg_restore cannot list is no dump, whatever pg_dump's exit code was.
"${compose[@]}" exec -T postgres pg_restore --list <"$dump.new" | grep 'TABLE DATA public LiteLLM_VerificationToken' >/dev/null ||
    fail "the dump holds no keys" "it was not kept; was LiteLLM ever started on this database?"
mv "$dump.new" "$dump"
find "$to" -maxdepth 1 -name 'litellm-*.dump' | sort -r | tail -n "+$((keep + 1))" | while IFS= read -r old; do rm -f "$old"; done
printf '%s (%s bytes)\n' "$dump" "$(stat -c %s "$dump")"
