{# Starting and stopping the sidecar without losing the session that does it. #}
{# A rule without a target changes nothing for any packet, but makes the kernel track connections from now on: those
    that are open are known as such before the sidecar's rules come, and are not redirected into it. #}
track() {
	for tables in iptables ip6tables; do
		has $tables || continue
		set -- INPUT -m conntrack --ctstate ESTABLISHED -m comment --comment istio-vm-mesh
		$tables -w 10 -C "$@" 2>/dev/null || $tables -w 10 -I "$@" || [ $tables = ip6tables ]
	done
}
untrack() {
	for tables in iptables ip6tables; do
		has $tables || continue
		set -- INPUT -m conntrack --ctstate ESTABLISHED -m comment --comment istio-vm-mesh
		while $tables -w 10 -D "$@" 2>/dev/null; do :; done
	done
}
current() { echo "$restart $(cat "$state/package")"; }
as_configured() { systemctl -q is-active istio && [ "$(cat "$run/started" 2>/dev/null)" = "$(current)" ]; }
{# What systemd runs before each start, after a reboot too. #}
prestart() {
	track
	mkdir -p "$run"
	current >"$run/started"
}
enrol() {
	doing='enrolling the VM'
	umask 077
	secrets=/var/run/secrets
	token=$(cat)
	if [ -n "$token" ]; then
		install -d -o "$owner" -g "$owner" -m 755 "$secrets"
		install -d -o "$owner" -g "$owner" -m 700 "$secrets/tokens"
		printf %s "$token" | put "$secrets/tokens/istio-token" 600 "$owner:$owner" >/dev/null
	fi
	{# The certificate of another identity or mesh would be shown to istiod instead of the token. #}
	identity=$(grep -E '^(TRUST_DOMAIN|POD_NAMESPACE|SERVICE_ACCOUNT)=' /var/lib/istio/envoy/cluster.env | cat - /etc/certs/root-cert.pem | sha256sum)
	[ "$identity" = "$(cat "$state/identity" 2>/dev/null || :)" ] || rm -f /etc/certs/key.pem /etc/certs/cert-chain.pem
	echo "$identity" >"$state/identity"
	systemctl -q enable istio 2>/dev/null
	if as_configured && rules_kept; then
		echo 'the sidecar runs as configured'
		return
	fi
	forget confirmed
	track
	echo 'starting the sidecar'
	{# Connections that wait for an answer are tracked as such only once it has come. #}
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		sleep 0.1
		ss -Htn state established | awk '$2 > 0 { exit 1 }' && break
	done
	systemctl reset-failed istio 2>/dev/null || :
	systemctl restart --no-block istio
}
drain() {
	doing='stopping the sidecar'
	forget confirmed
	if [ -e /lib/systemd/system/istio.service ]; then
		systemctl -q disable istio 2>/dev/null || :
		systemctl stop istio
		echo 'stopped the sidecar'
	fi
	{# A crashed agent leaves its rules behind. #}
	for tables in iptables iptables-legacy ip6tables ip6tables-legacy; do
		if has pilot-agent && has $tables && $tables -w 10 -t nat -S 2>/dev/null | grep -q ISTIO_; then
			(cd / && istio-start.sh clean >/dev/null 2>&1)
		fi
	done
	rm -rf "$run"
	untrack
}
