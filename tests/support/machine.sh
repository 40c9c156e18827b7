#!/bin/sh
# Installs from Debian's packages what the tests need, where we are root on Debian; says what is missing elsewhere.
# usage: machine.sh python | node | services
set -eu

missing=""
need() { # need COMMAND PACKAGE
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

case "$1" in
python)
    "${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || missing="python3"
    "${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
    ;;
node)
    need node nodejs
    need npm npm
    ;;
services)
    need nginx nginx-light
    need chromium chromium
    need chromedriver chromium-driver
    need openssl openssl
    need node nodejs
    need npm npm
    need softhsm2-util softhsm2
    need ip iproute2
    # Debian keeps the programs of the server off the PATH.
    command -v initdb >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 ||
        missing="$missing postgresql"
    command -v valkey-server >/dev/null 2>&1 || need redis-server redis-server
    if [ "${BENCH:-}" ]; then
        need wrk wrk; need curl curl; need taskset util-linux
        need apache2 apache2; need haproxy haproxy
        [ -e /usr/lib/apache2/modules/mod_oauth2.so ] || missing="$missing libapache2-mod-oauth2"
    fi
    ;;
*)
    echo "usage: machine.sh python | node | services" >&2
    exit 2
    ;;
esac

[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing:$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086
    # What is installed is not started: tests start what they need.
    RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $missing >/dev/null
    exit 0
fi
echo "not installed, and this is no Debian where we are root:$missing" >&2
if [ "$1" = services ] && [ -z "${CI:-}" ]; then
    echo "the tests that need them are skipped and say so" >&2
    exit 0
fi
exit 1
