#!/usr/bin/env bash
# Makes a Debian or Ubuntu machine with NVIDIA cards ready for Corral's containers: driver, container toolkit, persistence,
# power limits that survive a reboot, the models' folder, the watchdog. Run it again at any time: what is right is left.
set -euo pipefail

usage() {
    cat <<'END'
Usage: setup-host.sh [options]

  --power-limit WATTS        of every card; or UUID=WATTS for one card, given once for each
  --models FOLDER            where the GGUF files lie (default /srv/corral/models)
  --no-driver                leave the driver alone
  --no-watchdog              do not install the watchdog
  --dry-run                  say what would be done, change nothing
  --undo                     take back what this script did: services, limits, the Docker runtime
  --help

Examples:
  sudo gpu-server/scripts/setup-host.sh --dry-run --power-limit 90
  sudo gpu-server/scripts/setup-host.sh --power-limit 90
  sudo gpu-server/scripts/setup-host.sh --power-limit GPU-8f1c...=120 --power-limit GPU-77aa...=90

Exit codes: 0 the machine is ready, 1 something failed, 2 wrong arguments, 3 something is for you to do first (it is said).
END
}

# ROOT is for tests: where /etc, /srv and /usr/local are.
ROOT=${ROOT:-}
ETC=$ROOT/etc
UNITS=$ETC/systemd/system
LIBEXEC=$ROOT/usr/local/libexec/corral
LIMITS=$ETC/corral/power-limits
DAEMON=$ETC/docker/daemon.json
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
OLDEST_DRIVER=525 # the first with CUDA 12, which the default image has
MODELS=/srv/corral/models
DISK_GIB=20

power=()
driver=yes
watchdog=yes
dry=no
undo=no
to_do=0

say() { printf '%-9s %s\n' "$1" "$2"; }
fail() {
    printf 'error: %s; %s\n' "$1" "$2" >&2
    exit "${3:-1}"
}
later() { # what is for the user to do
    printf 'to do     %s; %s\n' "$1" "$2" >&2
    to_do=1
}
run() { # what, command: says and does it, or only says it
    local what=$1
    shift
    if [ "$dry" = yes ]; then
        say would "$what"
        return
    fi
    say doing "$what"
    "$@"
}
has() { command -v "$1" >/dev/null 2>&1; }

while [ $# -gt 0 ]; do
    case $1 in
    --power-limit | --models)
        [ $# -ge 2 ] || fail "$1 needs a value" "see --help" 2
        if [ "$1" = --models ]; then MODELS=$2; else power+=("$2"); fi
        shift
        ;;
    --no-driver) driver=no ;;
    --no-watchdog) watchdog=no ;;
    --dry-run) dry=yes ;;
    --undo) undo=yes ;;
    --help | -h)
        usage
        exit 0
        ;;
    *) fail "$1 is no option" "see --help" 2 ;;
    esac
    shift
done
[[ $MODELS =~ ^/[A-Za-z0-9._/-]+$ ]] || fail "--models $MODELS is no absolute path of letters, digits, dots and dashes" "give one like /srv/corral/models" 2
for limit in "${power[@]}"; do
    [[ $limit =~ ^((GPU-[0-9A-Za-z-]+)=)?[0-9]{2,4}$ ]] || fail "--power-limit $limit is no limit" "give watts, or GPU-UUID=WATTS (nvidia-smi -L prints the UUIDs)" 2
done
if [ "$dry" = no ] && [ "$(id -u)" != 0 ]; then
    fail "this changes the system, and needs root" "run it with sudo, or look first with --dry-run"
fi

# ---- files: written only where they differ, taken back only where they are ours ---------------------------------------
MARK="# Written by Corral's setup-host.sh"
written=no
put() { # path, mode: the content comes on standard input
    local path=$1 mode=$2 new
    new=$(cat)
    if [ -f "$path" ] && [ "$(cat "$path")" = "$new" ]; then
        say ok "$path"
        return
    fi
    if [ -f "$path" ] && ! grep -q "^$MARK" "$path"; then
        fail "$path is there, and this script did not write it" "move it away, then run this again"
    fi
    written=yes
    if [ "$dry" = yes ]; then
        say would "write $path"
        return
    fi
    say doing "write $path"
    mkdir -p "$(dirname "$path")"
    printf '%s\n' "$new" >"$path.new"
    chmod "$mode" "$path.new"
    mv "$path.new" "$path"
}
remove_ours() { # path
    if [ -f "$1" ] && grep -q "^$MARK" "$1"; then run "remove $1" rm -f "$1"; fi
}
restart_docker() {
    if ! has docker || ! docker info >/dev/null 2>&1; then return; fi
    if [ -n "$(docker ps --quiet)" ]; then
        later "Docker must be restarted, and containers run" "when it suits: systemctl restart docker"
        return
    fi
    run "restart Docker" systemctl restart docker
}

# ---- undo -----------------------------------------------------------------------------------------------------------
if [ "$undo" = yes ]; then
    for unit in corral-watchdog.timer corral-watchdog.service corral-power-limit.service; do
        if [ -f "$UNITS/$unit" ] && has systemctl; then run "stop $unit" systemctl disable --now "$unit"; fi
        remove_ours "$UNITS/$unit"
    done
    if [ -f "$LIMITS" ] && has nvidia-smi; then
        while IFS=, read -r uuid watts; do
            run "set $uuid back to its default of $watts W" nvidia-smi -i "$uuid" -pl "${watts%.*}"
        done < <(nvidia-smi --query-gpu=uuid,power.default_limit --format=csv,noheader,nounits | tr -d ' ')
    fi
    remove_ours "$LIMITS"
    remove_ours "$LIBEXEC/power-limit"
    remove_ours "$LIBEXEC/watchdog"
    if [ -f "$DAEMON.before-corral" ]; then
        run "put $DAEMON back" mv "$DAEMON.before-corral" "$DAEMON"
        restart_docker
    fi
    if has systemctl; then run "reload systemd" systemctl daemon-reload; fi
    say left "packages and $MODELS stay: they may be used by others"
    exit 0
fi

# ---- the machine ------------------------------------------------------------------------------------------------------
# shellcheck disable=SC1091  # of the machine
. "$ROOT/etc/os-release"
case "${ID:-} ${ID_LIKE:-}" in
*debian* | *ubuntu*) say ok "${PRETTY_NAME:-$ID}" ;;
*) fail "this script knows Debian and Ubuntu, and this is ${PRETTY_NAME:-another system}" "set it up by hand: docs/gpu-host-setup.md lists each step" 3 ;;
esac

# ---- limits, before anything is changed ---------------------------------------------------------------------------------
check_limit() { # uuid or empty, watts
    local seen=no uuid lowest highest
    while IFS=, read -r uuid lowest highest; do
        [ -z "$1" ] || [ "$1" = "$uuid" ] || continue
        seen=yes
        [[ $lowest =~ ^[0-9.]+$ ]] || fail "$uuid does not let its power be limited" "leave it out" 1
        if [ "$2" -lt "${lowest%.*}" ] || [ "$2" -gt "${highest%.*}" ]; then
            fail "$2 W is outside what $uuid takes" "give ${lowest%.*} to ${highest%.*}" 2
        fi
    done < <(nvidia-smi --query-gpu=uuid,power.min_limit,power.max_limit --format=csv,noheader,nounits | tr -d ' ')
    [ "$seen" = yes ] || fail "there is no card $1 here" "nvidia-smi -L lists them" 2
}
if [ ${#power[@]} -gt 0 ]; then
    if has nvidia-smi && nvidia-smi >/dev/null 2>&1; then
        for limit in "${power[@]}"; do
            case $limit in *=*) check_limit "${limit%=*}" "${limit#*=}" ;; *) check_limit "" "$limit" ;; esac
        done
    else
        later "the power limits cannot be checked before the driver works" "run this again after the reboot"
    fi
fi

apt_has() { [ -n "$(apt-cache policy "$1" 2>/dev/null | awk '/Candidate:/ && $2 != "(none)" {print $2}')" ]; }
install_package() { # package, what to do where apt does not know it
    if apt_has "$1"; then
        run "install $1" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$1"
    else
        later "apt knows no package $1" "$2"
        return 1
    fi
}

# ---- driver -----------------------------------------------------------------------------------------------------------
driver_version() { nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | sed -n 1p; }
if has nvidia-smi && version=$(driver_version) && [ -n "$version" ]; then
    if [ "${version%%.*}" -lt "$OLDEST_DRIVER" ]; then
        later "driver $version is older than $OLDEST_DRIVER, the first with CUDA 12" "upgrade it the way it was installed: this script does not replace drivers"
    else
        say ok "driver $version"
    fi
elif [ "$driver" = no ]; then
    say left "the driver, as --no-driver says"
elif has mokutil && mokutil --sb-state 2>/dev/null | grep enabled >/dev/null; then
    later "Secure Boot is on: a driver that is built here would not be loaded without a key of yours" "enrol one (mokutil --import) and install nvidia-driver, or switch Secure Boot off"
elif install_package nvidia-driver "on Debian add non-free and non-free-firmware to your sources, on Ubuntu run ubuntu-drivers install; then run this again"; then
    later "the driver begins to work with the next boot" "reboot, then run this again"
fi

# ---- Docker, and the toolkit that gives it GPUs --------------------------------------------------------------------------
if has docker; then
    say ok "$(docker --version 2>/dev/null || echo Docker)"
else
    install_package docker.io "add Docker's apt repository (docs.docker.com/engine/install), install docker-ce, then run this again" || true
fi
if has docker && ! docker compose version >/dev/null 2>&1; then
    later "Docker has no Compose v2" "install docker-compose-v2 on Ubuntu; on Debian docker-compose-plugin, from Docker's apt repository"
fi
if has nvidia-ctk; then
    say ok "$(nvidia-ctk --version 2>/dev/null | sed -n 1p)"
    if [ -f "$DAEMON" ] && grep -q nvidia-container-runtime "$DAEMON"; then
        say ok "$DAEMON has the NVIDIA runtime"
    else
        if [ -f "$DAEMON" ]; then
            run "keep $DAEMON as $DAEMON.before-corral" cp -p "$DAEMON" "$DAEMON.before-corral"
        elif [ "$dry" = no ]; then
            mkdir -p "$(dirname "$DAEMON")"
            echo '{}' >"$DAEMON.before-corral"
        fi
        run "add the NVIDIA runtime to $DAEMON" nvidia-ctk runtime configure --runtime=docker --config="$DAEMON"
        restart_docker
    fi
else
    install_package nvidia-container-toolkit "add NVIDIA's apt repository for it (its install guide), then run this again" || true
fi

# ---- persistence and power ----------------------------------------------------------------------------------------------
if has nvidia-smi && nvidia-smi >/dev/null 2>&1; then
    if nvidia-smi --query-gpu=persistence_mode --format=csv,noheader | grep -v Enabled >/dev/null; then
        run "switch persistence mode on" nvidia-smi -pm 1
    else
        say ok "persistence mode"
    fi
fi
if [ ${#power[@]} -gt 0 ]; then
    written=no
    put "$LIMITS" 644 < <(
        echo "$MARK; read by corral-power-limit.service: WATTS for all cards, UUID=WATTS for one."
        printf '%s\n' "${power[@]}"
    )
    put "$LIBEXEC/power-limit" 755 <"$HERE/power-limit"
    put "$UNITS/corral-power-limit.service" 644 <"$HERE/power-limit.service"
    if [ "$written" = yes ]; then
        if has systemctl; then
            run "reload systemd" systemctl daemon-reload
            run "set the limits now and at each boot" systemctl enable corral-power-limit.service
            run "restart corral-power-limit" systemctl restart corral-power-limit.service
        else
            later "there is no systemd here" "call $LIBEXEC/power-limit $LIMITS at each boot"
        fi
    fi
fi

# ---- models -------------------------------------------------------------------------------------------------------------
if [ -d "$ROOT$MODELS" ]; then say ok "$MODELS"; else run "make $MODELS" install -d -m 755 "$ROOT$MODELS"; fi
free_gib=$(df --output=avail -BG "$(d=$ROOT$MODELS; while [ ! -d "$d" ]; do d=$(dirname "$d"); done; echo "$d")" | tail -n 1 | tr -dc 0-9)
if [ "$free_gib" -lt "$DISK_GIB" ]; then
    later "$MODELS has $free_gib GiB of room" "an 8B model takes 6, a farm of several $DISK_GIB: make room, or give --models"
fi

# ---- watchdog -----------------------------------------------------------------------------------------------------------
if [ "$watchdog" = yes ]; then
    written=no
    put "$LIBEXEC/watchdog" 755 <"$HERE/watchdog"
    put "$UNITS/corral-watchdog.service" 644 <"$HERE/watchdog.service"
    put "$UNITS/corral-watchdog.timer" 644 <"$HERE/watchdog.timer"
    if [ "$written" = yes ]; then
        if has systemctl; then
            run "reload systemd" systemctl daemon-reload
            run "look after the containers each minute" systemctl enable --now corral-watchdog.timer
        else
            later "there is no systemd here" "call $LIBEXEC/watchdog each minute"
        fi
    fi
fi

[ "$to_do" = 0 ] || exit 3
say ready "next: put the models into $MODELS (corral models pull --into $MODELS), then docker compose up -d"
