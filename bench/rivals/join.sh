#!/bin/sh
# join.sh NAME ADDRESS: what the Istio documentation tells people to type, as one ssh stream.
set -eu
"$HERE/configure.sh" "$1" "$2"
tar -C "$WORK/files/$1" -c . | ssh -F "$WORK/ssh_config" "root@$2" "URL=$URL SHA256=$SHA256 VERSION=$VERSION; $(cat "$HERE/on_vm.sh")"
