#!/bin/sh
# Takes a VM that leaves the stack out of the mesh, then down: what deleting its `membership` runs, in the project's
# folder. What it has to know comes as `key: value` lines on standard input, private keys in its environment
# (components/departure.py). ssh exits with 255 for every failure of its own, so what it logged says which it was. Only
# where no connection came about is a VM dead: a server that answers, be it with another host key, is no dead VM. So the
# VM is logged in to before anything is done.
umask 077
unreachable='' bastion='' agent='' bastion_agent='' kubeconfig='' context=''
while IFS= read -r line; do
	value=${line#*: }
	case $line in
		'vm: '*) vm=$value ;;
		'namespace: '*) namespace=$value ;;
		'entry: '*) entry=$value ;;
		'login: '*) login=$value ;;
		'host-key: '*) host_key=$value ;;
		'agent: '*) agent=$value ;;
		'bastion: '*) bastion=$value ;;
		'bastion-host-key: '*) bastion_host_key=$value ;;
		'bastion-agent: '*) bastion_agent=$value ;;
		'kubeconfig: '*) kubeconfig=$value ;;
		'context: '*) context=$value ;;
		'unreachable: leaves') unreachable=leaves ;;
		'take-down: '*) take_down=$value ;;
	esac
done
host=${login#* } bastion_host=${bastion#* }
host=${host%% *} bastion_host=${bastion_host%% *}
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
trap 'exit 129' HUP INT TERM

k() {
	kubectl --request-timeout=20s ${kubeconfig:+"--kubeconfig=$kubeconfig"} ${context:+"--context=$context"} "--namespace=$namespace" "$@"
}
# ssh_host NAME PRIVATE_KEY AGENT HOST_KEY SECONDS USER HOST PORT: how ssh gets to a machine, and what it is known by.
ssh_host() {
	if [ "$8" = 22 ]; then known=$7; else known="[$7]:$8"; fi
	printf '%s %s\n' "$known" "$4" >>"$folder/known_hosts"
	printf 'Host %s\nUser %s\nHostName %s\nPort %s\n' "$1" "$6" "$7" "$8"
	printf 'HostKeyAlgorithms %s\nConnectTimeout %s\n' "${4%% *}" "$5"
	if [ -n "$2" ]; then
		printf '%s\n' "$2" >"$folder/$1.key"
		printf 'IdentitiesOnly yes\nIdentityFile "%s"\n' "$folder/$1.key"
	else
		printf 'IdentityAgent "%s"\n' "${3:-SSH_AUTH_SOCK}"
	fi
}
# A machine may take six seconds to answer, through a bastion twice as long; a connection that has answered nothing for
# fifteen is lost. LogLevel VERBOSE says whether the login succeeded.
{
	# shellcheck disable=SC2086  # user, host and port
	if [ -n "$bastion" ]; then
		ssh_host bastion "${ISTIO_VM_MESH_BASTION_KEY-}" "$bastion_agent" "$bastion_host_key" 6 $bastion
		ssh_host vm "${ISTIO_VM_MESH_KEY-}" "$agent" "$host_key" 12 $login
		printf 'ProxyCommand ssh -F "%s" -E "%s" -W [%%h]:%%p bastion\n' "$folder/config" "$folder/bastion.log"
	else
		ssh_host vm "${ISTIO_VM_MESH_KEY-}" "$agent" "$host_key" 6 $login
	fi
	printf 'Host *\nBatchMode yes\nStrictHostKeyChecking yes\nGlobalKnownHostsFile /dev/null\nUserKnownHostsFile "%s"\n' "$folder/known_hosts"
	printf 'ServerAliveInterval 5\nServerAliveCountMax 3\nLogLevel VERBOSE\n'
} >"$folder/config"

logged() { grep -Eq "$2" "$folder/$1.log" 2>/dev/null; }
# How systems say that nothing answers at an address.
away='([Tt]imed out|[Tt]imeout|[Rr]efused|[Nn]o route to host|[Uu]nreachable|[Hh]ost is down)'
# The connection ended before an ssh server said a word: what it came to may be a machine that is going down.
before_banner='^(kex|ssh)_exchange_identification: (read: )?Connection (closed by remote host|reset by peer|timed out)|^Connection timed out during banner exchange'
# Whether no connection to the VM came about; through a bastion that holds only once that was logged in to.
nobody_there() {
	if [ -z "$bastion" ]; then
		logged vm "^ssh: connect to host .*: .*$away|$before_banner"
	elif ! logged bastion '^Authenticated to '; then
		return 1
	elif logged bastion 'open failed: '; then
		logged bastion "open failed: connect failed: .*$away"
	else
		logged vm "$before_banner"
	fi
}
has_not_left() { echo "error: VM $vm has not left: $1 $stays" >&2; exit 1; }
# What ssh logs where all is well, and advice about a file that is gone by then, is not shown.
noise='^(Authenticated to |Transferred: |Bytes per second: |Killed by signal |@|Add correct host key in |Offending .* key in |  remove with:|  ssh-keygen )'
# on_vm COMMAND: twice, since a VM that lost the connection midway, or was overrun, may answer then. Where nothing
# answers and the VM may leave so, `gone` says so.
on_vm() {
	for attempt in 1 2; do
		[ "$attempt" = 1 ] || sleep 2
		rm -f "$folder"/*.log
		status=0
		# A log of its own: what the VM's commands say is not to be taken for ssh's word.
		ssh -F "$folder/config" -E "$folder/vm.log" vm "$1" </dev/null || status=$?
		[ "$status" = 255 ] || break
	done
	[ "$status" != 0 ] || return 0
	[ "$status" = 255 ] || exit "$status"
	grep -Ehv "$noise" "$folder"/*.log >&2
	if nobody_there; then
		[ "$unreachable" = leaves ] || has_not_left "nothing answers at $host. Switch it on, and run again. If it is gone for good, put it back into the stack with removeUnreachable: true, run up, and take it out again."
		gone=y
		echo "warning: VM $vm is unreachable and was given up: its WorkloadEntry goes, and its token is revoked. On it remain the package istio-sidecar with the user istio-proxy, /var/lib/istio, /var/log/istio, /etc/istio, /etc/certs, /var/lib/istio-vm-mesh, /usr/local/lib/istio-vm-mesh, units of istio-vm-mesh in /etc/systemd/system, its block in /etc/hosts, and a sidecar that starts with the VM. Should it come back, this removes them there: $take_down" >&2
	elif logged vm '^Host key verification failed|no matching host key type found'; then
		has_not_left "at $host answers a machine whose host key is not the stack's. If it is the VM, put it back into the stack with its new hostKey, run up, and take it out again. If the VM is gone and another machine has its address, take $vm-membership out of the state (pulumi state delete) and run again."
	elif logged vm '^Authenticated to '; then
		has_not_left 'the connection to it broke off 2 times. Run again.'
	elif [ -n "$bastion" ] && { ! logged bastion '^Authenticated to ' || logged bastion 'open failed: '; }; then
		has_not_left "ssh does not get past the bastion $bastion_host, so nobody knows whether it is there. Mend what is said above, and run again."
	else
		has_not_left 'ssh to it fails as said above, which is no proof that it is gone. Mend that, or switch it off, and run again.'
	fi
}
# The entry stays where another VM of the stack has it by now, under a Secret of its own.
delete_entry() {
	if [ -n "$heirs" ]; then echo "left alone: it is $heirs by now"; else k delete "$object" --ignore-not-found --wait=false; fi
}

gone='' stays='Its WorkloadEntry and its token are left alone.'
on_vm true
object=workloadentries.networking.istio.io/$entry
of_entry="[?(@.metadata.annotations.istio-vm-mesh/entry==\"$entry\")]"
secrets=$(k get secrets -l istio-vm-mesh/vm -o "jsonpath={range .items$of_entry}{.metadata.labels.istio-vm-mesh/vm} {.metadata.name}{\"\n\"}{end}") || exit 1
heirs=$(printf '%s\n' "$secrets" | awk -v vm="$vm" 'NF && $1 != vm { print $1 }')
own=$(printf '%s\n' "$secrets" | awk -v vm="$vm" '$1 == vm { print $2 }')
delete_entry || exit 1
# istiod gathers changes for 0.1 s, and tells the proxies then (PILOT_DEBOUNCE_AFTER).
[ -n "$heirs" ] || sleep 2
stays='It is out of the mesh by now, its token is left alone.'
[ -n "$gone" ] || on_vm "$take_down"
# It may have registered again while it drained; mostly it has not.
there=$(k get "$object" --ignore-not-found --output=name) || exit 1
[ -z "$there" ] || [ -n "$heirs" ] || delete_entry || exit 1
# shellcheck disable=SC2086  # names
[ -z "$own" ] || k delete secrets $own
