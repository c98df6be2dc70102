{# Waits until the sidecar is ready, and says what proves it; or why it is not, from its own logs. #}
ready() {
	if has curl; then curl -fs -o /dev/null -m 2 http://localhost:15021/healthz/ready; else wget -q -T 2 -O /dev/null http://localhost:15021/healthz/ready; fi
}
confirm() {
	doing='confirming the sidecar'
	end=$(($(date +%s) + 60))
	until as_configured && ready && [ -s /etc/certs/cert-chain.pem ]; do
		[ "$(date +%s)" -lt "$end" ] || diagnose
		sleep 0.25
	done
	certificate=null
	if has openssl; then
		field() { openssl x509 -in /etc/certs/cert-chain.pem -noout "$@"; }
		spiffe=$(field -ext subjectAltName | sed -n 's/.*URI://p')
		not_after=$(date -u -d "$(field -enddate | cut -d= -f2)" +%Y-%m-%dT%H:%M:%SZ)
		certificate=$(printf '{"notAfter":"%s","serial":"%s","spiffe":"%s"}' "$not_after" "$(field -serial | cut -d= -f2)" "$(json "$spiffe")")
	fi
	since=$(date -u -d "$(systemctl show -p ActiveEnterTimestamp --value istio)" +%Y-%m-%dT%H:%M:%SZ)
	printf '{"package":"%s","certificate":%s,"ready":true,"since":"%s"}\n' \
		"$(json "$(dpkg-query -W -f '${Version}' istio-sidecar)")" "$certificate" "$since"
}
{# why PATTERN CODE HINT: fails with the last line of the logs that the pattern fits. #}
why() {
	line=$(tail -n 200 "$root"/var/log/istio/*.log 2>/dev/null | grep -E "$1" | tail -n 1)
	[ -z "$line" ] || fail "$2" "$line" "$3"
}
diagnose() {
	systemctl -q is-active istio ||
		fail sidecar-stopped "istio.service is $(systemctl is-active istio || :): $(tail -n 1 /var/log/istio/istio.err.log 2>/dev/null)" "see 'journalctl -u istio' on the VM"
	why 'GLIBC_|Exec format error' wrong-package "use a package that is built for this VM's system"
	why 'cannot find WorkloadGroup' group-missing 'the WorkloadGroup must be in the namespace of the VM'
	why 'client claims to be in cluster' cluster-unknown 'cluster.name must be the name that istiod knows'
	why 'x509:|unknown authority|CERTIFICATE_VERIFY_FAILED' istiod-untrusted "the mesh's root certificate has changed, or the clock of the VM is off"
	why 'Unauthenticated|authentication failure|token.*(expired|invalid)|PermissionDenied' token-refused 'take the VM out of the stack file, run up, put it back, run up: it gets a new token'
	why 'connection refused|i/o timeout|no route to host|no such host|deadline exceeded|connection error' istiod-unreachable "open the way to $istiod_at"
	fail not-ready 'the sidecar was not ready within 60 s' 'see /var/log/istio on the VM'
}
