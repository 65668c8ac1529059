#!/usr/bin/env bash
# Gathers what a bug report needs into one archive: machine, cards, containers, their logs, what the servers say of
# themselves. Changes nothing. Secrets are struck out: every value of an .env file given or found, keys, bearer tokens.
set -euo pipefail

usage() {
    cat <<'END'
Usage: diagnose.sh [--lines N] [--env FILE]... [--out FOLDER] [FOLDER...]

FOLDERs hold a compose.yaml each (a GPU host's gpu-server/, the gate's litellm/); without any, the current one.

  --lines N      of each container's log (default 2000)
  --env FILE     its values are struck out too; .env beside a compose.yaml is found by itself
  --out FOLDER   where the archive goes (default: here)

Example: gpu-server/scripts/diagnose.sh hosts/gpu-box/gpu-server
END
}
fail() {
    printf 'error: %s; %s\n' "$1" "$2" >&2
    exit 2
}

lines=2000
out=.
env_files=()
folders=()
while [ $# -gt 0 ]; do
    case $1 in
    --lines | --env | --out)
        [ $# -ge 2 ] || fail "$1 needs a value" "see --help"
        case $1 in --lines) lines=$2 ;; --env) env_files+=("$2") ;; --out) out=$2 ;; esac
        shift
        ;;
    --help | -h)
        usage
        exit 0
        ;;
    -*) fail "$1 is no option" "see --help" ;;
    *) folders+=("$1") ;;
    esac
    shift
done
[[ $lines =~ ^[0-9]{1,6}$ ]] || fail "--lines $lines is no number" "give one like 2000"
[ -d "$out" ] || fail "there is no folder $out" "make it, or give another --out"
[ ${#folders[@]} -gt 0 ] || folders=(.)
for folder in "${folders[@]}"; do
    [ -f "$folder/compose.yaml" ] || fail "$folder holds no compose.yaml" "give the folder of a compose project"
    if [ -f "$folder/.env" ]; then env_files+=("$folder/.env"); fi
done
for file in "${env_files[@]}"; do [ -r "$file" ] || fail "$file cannot be read" "run this as its owner, or with sudo"; done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
name=corral-diagnosis-$(date -u +%Y%m%dT%H%M%SZ)
mkdir "$work/$name"

keep() { # file, command: its output and exit code, whatever becomes of it
    local file=$work/$name/$1
    shift
    mkdir -p "$(dirname "$file")"
    {
        printf '$ %s\n' "$*"
        timeout 60 "$@" 2>&1 || printf '(exit code %s)\n' "$?"
    } >"$file"
    printf 'kept  %s\n' "${file#"$work/$name/"}" >&2
}
has() { command -v "$1" >/dev/null 2>&1; }

keep machine/uname.txt uname -a
keep machine/os-release.txt cat /etc/os-release
keep machine/cpu.txt lscpu
keep machine/memory.txt free -m
keep machine/disk.txt df -h
keep machine/load.txt uptime
if has nvidia-smi; then
    keep cards/nvidia-smi.txt nvidia-smi
    keep cards/all.txt nvidia-smi -q
    keep cards/xid.txt sh -c 'dmesg 2>&1 | grep -iE "xid|nvrm|out of memory|oom-kill" | tail -n 200'
fi
if has docker; then
    keep docker/version.txt docker version
    keep docker/info.txt docker info
    keep docker/stats.txt docker stats --no-stream
    for folder in "${folders[@]}"; do
        project=$(basename "$(cd "$folder" && pwd)")-$(printf '%s' "$(cd "$folder" && pwd)" | cksum | cut -d ' ' -f 1)
        compose=(docker compose --project-directory "$folder" --file "$folder/compose.yaml")
        keep "$project/compose.yaml" cat "$folder/compose.yaml"
        keep "$project/containers.txt" "${compose[@]}" ps --all
        while read -r id; do
            [ -n "$id" ] || continue
            container=$(docker inspect --format '{{.Name}}' "$id")
            keep "$project/${container#/}/log.txt" docker logs --timestamps --tail "$lines" "$id"
            keep "$project/${container#/}/state.txt" docker inspect --format '{{json .State}} restarts={{.RestartCount}} image={{.Image}}' "$id"
            # What a gpu-server says of itself, asked inside, where its key is.
            keep "$project/${container#/}/status.txt" docker exec "$id" python3 -c '
import os, urllib.request as r
for path in ("/health", "/status", "/metrics"):
    ask = r.Request("http://127.0.0.1:" + os.environ.get("PORT", "8080") + path)
    ask.add_header("Authorization", "Bearer " + os.environ.get("API_KEY", ""))
    try:
        print(path, r.urlopen(ask, timeout=5).read().decode())
    except Exception as error:
        print(path, error)'
        done < <("${compose[@]}" ps --all --quiet 2>/dev/null)
    done
fi

# ---- secrets ------------------------------------------------------------------------------------------------------------
# Values of 6 and more characters; shorter ones are words, and striking them would strike half the report.
secrets=$work/secrets
sed -n 's/^\(export \)\{0,1\}[A-Za-z_][A-Za-z0-9_]*=//p' "${env_files[@]}" /dev/null |
    sed -e 's/^"\(.*\)"$/\1/' -e "s/^'\(.*\)'\$/\1/" | awk 'length($0) >= 6' | sort -u >"$secrets"
find "$work/$name" -type f | while IFS= read -r file; do
    awk -v secrets="$secrets" '
        BEGIN { while ((getline line < secrets) > 0) known[line] = 1 }
        {
            for (secret in known) {
                done = ""
                while ((at = index($0, secret)) > 0) {
                    done = done substr($0, 1, at - 1) "[struck out]"
                    $0 = substr($0, at + length(secret))
                }
                $0 = done $0
            }
            print
        }' "$file" |
        sed -E -e 's/sk-[A-Za-z0-9_-]{8,}/[struck out]/g' \
            -e 's/([Bb]earer) [A-Za-z0-9._~+/=-]{8,}/\1 [struck out]/g' \
            -e 's#://[^:/@ ]*:[^@/ ]*@#://[struck out]@#g' >"$file.clean"
    mv "$file.clean" "$file"
done

archive=$out/$name.tar.gz
tar -C "$work" -czf "$archive" "$name"
chmod 600 "$archive"
printf '%s\n' "$archive"
printf 'look through it before you send it: prompts are not in it, names of models and addresses are\n' >&2
