#!/usr/bin/env bash
# Dumps the gate's database each night. Runs in a container of PostgreSQL's image beside it: the service `backup`.
set -euo pipefail

usage() {
    cat <<'END'
Usage: nightly.sh [--now | --check]

  (nothing)   a dump each night at BACKUP_AT, and at once if the newest is older than a day; a failed one is tried again
              each minute. Before LiteLLM has made its tables there is nothing to dump.
  --now       one dump, now
  --check     exit code 0 if the newest dump is younger than 26 hours, or there is nothing to dump yet; else 1

Settings (environment):
  BACKUP_FOLDER   where dumps go, named litellm-20261120T031500Z.dump, mode 600
  BACKUP_AT       UTC, like 03:15
  BACKUP_KEEP     how many are kept, the oldest go first

Beside the dumps lies backup.prom, which tells node exporter's textfile collector when the newest was made.
  PGHOST, PGPASSWORD   the database's

Exit codes: 0, 1 no dump was made or the newest is too old, 2 wrong arguments or settings.
END
}

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

DAY_MIN=1440
LATE_MIN=$((26 * 60)) # a night's dump, one that took long, and two retries
RETRY_S=60
TABLES_S=5 # how often it looks for LiteLLM's tables, at the very first start

mode=${1:-}
[ -n "$mode" ] || linger_where_it_fails

folder=${BACKUP_FOLDER:?}
at=${BACKUP_AT:?}
keep=${BACKUP_KEEP:?}
[[ $at =~ ^([01][0-9]|2[0-3]):[0-5][0-9]$ ]] || fail "BACKUP_AT $at is no time of a day" "give one like 03:15, in UTC" 2
check_count BACKUP_KEEP "$keep"

is_younger_than() { # minutes: whether the newest dump is
    [ -n "$(find "$folder" -maxdepth 1 -name "litellm-*.dump" -mmin "-$1" -print -quit)" ]
}
tell() { # for node exporter, which is another user; 0 where there is no dump
    local newest new=$folder/backup.prom.new
    newest=$(find "$folder" -maxdepth 1 -name 'litellm-*.dump' -printf '%T@\n' | sort -n | tail -n 1)
    if ! {
        printf '%s\n' '# HELP corral_backup_last_dump_timestamp_seconds When the newest dump of the database was made.' \
            '# TYPE corral_backup_last_dump_timestamp_seconds gauge' \
            "corral_backup_last_dump_timestamp_seconds ${newest:-0}" >"$new" &&
            chmod 644 "$new" && mv "$new" "$folder/backup.prom"
    }; then
        printf 'warning: %s cannot be written: the alert BackupMissing will come though dumps are made\n' "$folder/backup.prom" >&2
    fi
}
has_tables() { # 1: not yet; 2: PostgreSQL does not say
    local said
    said=$(psql --username litellm --dbname litellm --no-psqlrc --tuples-only --no-align \
        --command "SELECT to_regclass('public.\"LiteLLM_VerificationToken\"') IS NOT NULL") || return 2
    [ "$said" = t ]
}
dump() {
    local made
    made=$folder/$(dump_name)
    if ! pg_dump --username litellm --format custom --file "$made.new" litellm; then
        rm -f "$made.new"
        printf 'error: the dump failed, see above; earlier ones are as they were\n' >&2
        return 1
    fi
    if ! pg_restore --list "$made.new" | lists_keys; then
        rm -f "$made.new"
        printf 'error: the dump holds no keys and was not kept; was LiteLLM ever started on this database?\n' >&2
        return 1
    fi
    mv "$made.new" "$made"
    keep_newest "$folder" "$keep"
    tell
    printf '%s (%s bytes)\n' "$made" "$(stat -c %s "$made")"
}
until_next_s() {
    local now next
    now=$(date -u +%s)
    next=$(date -u -d "$at" +%s)
    echo $(((next - now + 86399) % 86400 + 1))
}

umask 077
case $mode in
--help | -h) usage ;;
--now) dump ;;
--check)
    is_younger_than "$LATE_MIN" && exit 0
    seen=0
    has_tables || seen=$?
    [ "$seen" = 1 ] && exit 0
    fail "$folder has no dump of the last 26 hours" "docker compose logs backup says why"
    ;;
'')
    [ -w "$folder" ] || fail "$folder cannot be written to by user $(id -u)" "give the volume to that user, or remove it while it is empty"
    rm -f "$folder"/*.new # of a dump that was cut off
    until has_tables; do pause "$TABLES_S"; done
    while true; do
        tell
        if is_younger_than "$DAY_MIN"; then pause "$(until_next_s)"; fi
        dump || pause "$RETRY_S"
    done
    ;;
*) fail "$mode is no option" "see --help" 2 ;;
esac
