# shellcheck shell=bash
# What the scripts beside this share: how they fail, and what they call a dump of the gate's database.

fail() { # cause, mend, exit code
    printf 'error: %s; %s\n' "$1" "$2" >&2
    exit "${3:-1}"
}

pause() { # seconds; a signal ends it at once
    sleep "$1" &
    wait $!
}
linger_where_it_fails() { # in a container: what starts it again then does so once a minute
    trap 'if [ $? != 0 ]; then pause 60; fi' EXIT
    trap 'exit 0' TERM INT
}

# Takes the listing of pg_restore on standard input. What pg_restore cannot list is no dump, whatever pg_dump's exit code
# was. grep reads to the end: leaving early would fail the writer under pipefail.
lists_keys() { grep 'TABLE DATA public LiteLLM_VerificationToken' >/dev/null; }

check_count() { # option, value
    [[ $2 =~ ^[1-9][0-9]{0,3}$ ]] || fail "$1 $2 is no number from 1 to 9999" "give one like 14" 2
}

find_compose() { # the gate's folder: sets compose, the command with its file
    [ -f "$1/compose.yaml" ] || fail "$1 holds no compose.yaml" "give the folder of the gate's" 2
    # shellcheck disable=SC2034  # those who source this use it
    compose=(docker compose --project-directory "$1" --file "$1/compose.yaml")
}

dump_name() { printf 'litellm-%s.dump' "$(date -u +%Y%m%dT%H%M%SZ)"; }

keep_newest() { # folder, how many: the oldest go
    find "$1" -maxdepth 1 -name "litellm-*.dump" | sort -r | tail -n "+$(($2 + 1))" | while IFS= read -r old; do rm -f "$old"; done
}
