# Waits until the sidecar is ready, and says what proves it; or why it is not, from its own logs.
ready() {
	if has curl; then curl -fs -o /dev/null -m 2 http://localhost:15021/healthz/ready; else wget -q -T 2 -O /dev/null http://localhost:15021/healthz/ready; fi
}
confirm() {
	doing='confirming the sidecar'
	tell_taken_back
	if [ -e "$state/told" ]; then start_again; fi
	# Only a connection that is new since the start gets here.
	! [ -e "$state/unconfirmed" ] || current >"$state/proved"
	end=$(($(date +%s) + patience))
	until as_configured && ready && certified && resolves_still; do
		tell_taken_back
		[ "$(date +%s)" -lt "$end" ] || give_up "$(diagnose)" "not ready after $patience s"
		sleep 0.25
	done
	disarm
	forget_packages
	keep_confirmed
	remember confirmed
	evidence=null
	if [ -n "${certificate-}" ]; then
		field() { printf '%s\n' "$certificate" | sed -n "s/.*$1//p"; }
		not_after=$(date -u -d "$(field notAfter=)" +%Y-%m-%dT%H:%M:%SZ)
		evidence=$(printf '{"notAfter":"%s","serial":"%s","spiffe":"%s"}' "$not_after" "$(field serial=)" "$(json "$(field URI:)")")
	fi
	since=$(date -u -d "$(systemctl show -p ActiveEnterTimestamp --value istio)" +%Y-%m-%dT%H:%M:%SZ)
	printf '{"package":"%s","certificate":%s,"ready":true,"since":"%s"}\n' \
		"$(json "$(package_version)")" "$evidence" "$since"
}
proved() { [ "$(cat "$state/proved" 2>/dev/null)" = "$(current)" ]; }
# A start that was taken back, and told of: a connection that was new since that start has been here, so it was not ssh
# that failed, and it may be tried again from here.
start_again() {
	proved ||
		fail taken-back "$(cat "$state/told")" "name $vm under renew, then run up again: it is enrolled anew"
	enabled=$(systemctl is-enabled istio 2>/dev/null) || :
	bring_back >&2
	take_identity
	systemctl -q --no-reload enable istio 2>/dev/null
	start >&2
}
# anew STAMP: the VM had registered as it was before the change, and its entry was deleted: it gets another when the
# sidecar connects again. A stamp is followed once.
anew() {
	doing='starting the sidecar once more'
	# A VM that has gone back by itself was registered as it runs now, and gets that again.
	if [ -e "$state/taken-back" ] || { [ -e "$state/told" ] && ! proved; }; then systemctl try-restart istio >&2; fi
	tell_taken_back
	if [ -e "$state/told" ]; then
		start_again
	elif [ "$1" != "$(cat "$state/anew" 2>/dev/null)" ]; then
		enabled=$(systemctl is-enabled istio 2>/dev/null) || :
		start >&2
	fi
	echo "$1" >"$state/anew"
}
# give_up REASON WHY: fails with the reason; an unconfirmed start is taken back first, without waiting for the timer.
give_up() {
	reason=$1
	if [ -e "$state/unconfirmed" ]; then
		take_back "$2"
		mv -f "$state/taken-back" "$state/told"
		reason="$reason,\"more\":[{$(error taken-back "$(cat "$state/told")" 'correct what is wrong, then run up again')}]"
	fi
	report "$reason"
}
# why PATTERN CODE HINT: prints the last line of the logs that the pattern fits, as an error.
why() {
	line=$(tail -n 200 "$root"/var/log/istio/*.log 2>/dev/null | grep -E "$1" | tail -n 1)
	[ -n "$line" ] && error "$2" "$line" "$3"
}
# Prints why the sidecar is not ready.
diagnose() {
	if ! systemctl -q is-active istio; then
		error sidecar-stopped "istio.service is $(systemctl is-active istio || :): $(tail -n 1 /var/log/istio/istio.err.log 2>/dev/null)" "see 'journalctl -u istio' on the VM"
	elif as_configured && ready && ! resolves_still; then
		error dns-broken 'the resolver answered before the sidecar started, and does not answer now' 'a DNS server on the VM that forwards is captured too: see captureDns and CAPTURE_ALL_DNS'
	else
		why 'GLIBC_|Exec format error' wrong-package "use a package that is built for this VM's system" ||
			why 'cannot find WorkloadGroup' group-missing 'the WorkloadGroup must be in the namespace of the VM' ||
			why 'client claims to be in cluster' cluster-unknown 'cluster.name must be the name that istiod knows' ||
			why 'x509:|unknown authority|CERTIFICATE_VERIFY_FAILED' istiod-untrusted "the mesh's root certificate has changed, or the clock of the VM is off" ||
			why 'Unauthenticated|authentication failure|token.*(expired|invalid)|PermissionDenied' token-refused "name $vm under renew, then run up again: it gets a new token" ||
			why 'connection refused|i/o timeout|no route to host|no such host|deadline exceeded|connection error' istiod-unreachable "open the way to $istiod_at" ||
			error not-ready "the sidecar was not ready within $patience s" 'see /var/log/istio on the VM'
	fi
}
