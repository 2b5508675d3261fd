#!/bin/sh
# Erlang takes its cookie from a file of its own only, which nobody else may read.
set -eu
cookie=/var/lib/rabbitmq/.erlang.cookie
rm -f "$cookie"
umask 077
cat /run/secrets/erlang-cookie >"$cookie"
umask 022
exec docker-entrypoint.sh rabbitmq-server
