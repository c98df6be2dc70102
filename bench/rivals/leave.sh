#!/bin/sh
# leave.sh NAME ADDRESS
set -eu
ssh -F "$WORK/ssh_config" "root@$2" sh -s <"$HERE/off_vm.sh"
