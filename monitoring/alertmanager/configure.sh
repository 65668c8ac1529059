#!/bin/sh
# Writes FOLDER/alertmanager.yml (mode 600: it holds secrets) from the environment; whoever starts Alertmanager runs it.
#
#   ALERT_WEBHOOK_URL     gets every alert as JSON
#   ALERT_MAIL_TO         gets every alert by mail; then also
#     ALERT_MAIL_FROM       sender's address
#     ALERT_SMTP_HOST       host:port of the mail server
#     ALERT_SMTP_USER       empty: no login
#     ALERT_SMTP_PASSWORD
#   ALERT_HEARTBEAT_URL   gets DeadMansSwitch every five minutes; what watches it must raise the alarm when it stops
#
# All may be empty; then alerts are shown by Alertmanager and sent to nobody.
set -eu

usage() {
    printf 'configure.sh: %s\n' "$1" >&2
    exit 2
}

[ $# -eq 1 ] || usage "give the folder to write alertmanager.yml into"
[ -d "$1" ] || usage "$1 is no folder; make it first"

newline='
'
for name in ALERT_WEBHOOK_URL ALERT_MAIL_TO ALERT_MAIL_FROM ALERT_SMTP_HOST ALERT_SMTP_USER ALERT_SMTP_PASSWORD ALERT_HEARTBEAT_URL; do
    eval "value=\${$name:-}"
    # shellcheck disable=SC2154  # set by the eval
    case $value in *"$newline"*) usage "$name holds a line break; give one line" ;; esac
done
for name in ALERT_WEBHOOK_URL ALERT_HEARTBEAT_URL; do
    eval "value=\${$name:-}"
    case $value in '' | http://?* | https://?*) ;; *) usage "$name is no URL; give one that begins with http:// or https://" ;; esac
done
if [ -n "${ALERT_MAIL_TO:-}" ]; then
    [ -n "${ALERT_MAIL_FROM:-}" ] || usage "ALERT_MAIL_TO without ALERT_MAIL_FROM; give the sender's address"
    case ${ALERT_SMTP_HOST:-} in
        *?:[0-9]*) ;;
        *) usage "ALERT_MAIL_TO without ALERT_SMTP_HOST; give the mail server as host:port, like mail.example:587" ;;
    esac
fi

quoted() {
    printf "'%s'" "$(printf '%s' "$1" | sed "s/'/''/g")"
}

receiver() {
    printf '  - name: %s\n' "$1"
    if [ -n "$2" ]; then
        printf '    webhook_configs:\n      - url: %s\n        send_resolved: true\n' "$(quoted "$2")"
    fi
}

umask 077
{
    cat <<'ROUTES'
route:
  receiver: people
  group_by: [alertname, host, model]
  group_wait: 30s
  group_interval: 5m
  repeat_interval: 12h
  routes:
    - matchers: [alertname = DeadMansSwitch]
      receiver: heartbeat
      group_wait: 0s
      group_interval: 1m
      repeat_interval: 5m
    # the next key soon, and many keys in one message
    - matchers: [alertname = KeyNearBudget]
      receiver: people
      group_interval: 1m
    - matchers: [severity = page]
      receiver: people
      group_wait: 10s
      group_interval: 1m
      repeat_interval: 1h
# What follows from a larger fault is kept back while that one fires.
inhibit_rules:
  - source_matchers: [alertname = HostDown]
    target_matchers: ['alertname =~ "Gpu.+|HostDisk.+|HostMemory.+|HostClock.+|Gate.+|Postgres.+|BackupMissing|ScrapeGone"']
    equal: [host]
  - source_matchers: ['alertname =~ "GpuServerDown|GpuServerFailed"']
    target_matchers: ['alertname =~ "GpuServerNotReady|GpuServerRestarting|GpuServerStalled"']
    equal: [server]
  - source_matchers: [alertname = ModelGone]
    target_matchers: ['alertname =~ "ModelErrorShareHigh|ModelQueueGrowing|TtftBudget.+"']
    equal: [model]
  - source_matchers: [alertname = GateDown]
    target_matchers: ['alertname =~ "GateErrorShareHigh|GateServerCooledDown|KeyNearBudget"']
  - source_matchers: [alertname = CertificateAboutToEnd]
    target_matchers: [alertname = CertificateExpiring]
    equal: [instance]
receivers:
ROUTES
    receiver heartbeat "${ALERT_HEARTBEAT_URL:-}"
    receiver people "${ALERT_WEBHOOK_URL:-}"
    if [ -n "${ALERT_MAIL_TO:-}" ]; then
        printf '    email_configs:\n      - to: %s\n        from: %s\n        smarthost: %s\n        send_resolved: true\n' \
            "$(quoted "$ALERT_MAIL_TO")" "$(quoted "$ALERT_MAIL_FROM")" "$(quoted "$ALERT_SMTP_HOST")"
        if [ -n "${ALERT_SMTP_USER:-}" ]; then
            printf '        auth_username: %s\n        auth_password: %s\n' \
                "$(quoted "$ALERT_SMTP_USER")" "$(quoted "${ALERT_SMTP_PASSWORD:-}")"
        fi
    fi
} >"$1/alertmanager.yml"

if [ -z "${ALERT_WEBHOOK_URL:-}${ALERT_MAIL_TO:-}" ]; then
    echo "configure.sh: neither ALERT_WEBHOOK_URL nor ALERT_MAIL_TO is set: alerts reach nobody" >&2
fi
