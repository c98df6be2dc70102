#!/bin/sh
# configure.sh NAME ADDRESS: the files of one VM, as istioctl makes them, with a new token.
set -eu
mkdir -p "$WORK/files/$1"
group=$WORK/groups/$1.json
[ -e "$group" ] || group=$WORK/groups/all.json
istioctl x workload entry configure -f "$group" -o "$WORK/files/$1" --clusterID cluster1 --ingressIP "$GATEWAY" \
	--internalIP "$2" --autoregister >/dev/null
