#!/bin/sh
# Runs Mosquitto with the files that voltwire broker-files keeps current: reloads it when logins, access
# lists or certificates change, and restarts it when listeners do, which a reload cannot change.
#
#   run.sh MOSQUITTO_CONF FILES [CERTIFICATES]
set -u
conf=$1 files=$2 certificates=${3:-$2}
broker='' stopping=''

listeners() { cat "$files"/conf.d/*.conf 2>/dev/null; }
# Files are replaced, never changed: each one that is new has another number or time.
logins() { stat -L -c '%n %i %s %Z' "$files"/*_file "$files"/acl_* "$certificates"/* 2>/dev/null; }
signal() { [ -z "$broker" ] || kill -s "$1" "$broker" 2>/dev/null; }
# A trap interrupts `wait`.
ended() {
    while kill -0 "$broker" 2>/dev/null; do wait "$broker"; done
    wait "$broker"
}

trap 'stopping=yes; signal TERM' TERM INT
trap 'signal HUP' HUP

if [ -z "$(listeners)" ]; then
    echo "Waiting for voltwire broker-files, which writes $files/conf.d." >&2
fi
while [ -z "$stopping" ]; do
    known_listeners=$(listeners) known_logins=$(logins) restart=''
    if [ -n "$known_listeners" ]; then
        mosquitto -c "$conf" &
        broker=$!
    fi
    while [ -z "$stopping$restart" ]; do
        sleep 1 &
        wait $!
        [ -z "$broker" ] || kill -0 "$broker" 2>/dev/null || break
        if [ "$(listeners)" != "$known_listeners" ]; then
            restart=yes
            signal TERM
        elif [ "$(logins)" != "$known_logins" ]; then
            known_logins=$(logins)
            signal HUP
        fi
    done
    [ -n "$broker" ] || continue
    ended
    code=$?
    [ -n "$restart" ] || exit $code
done
