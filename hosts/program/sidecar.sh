# Starting and stopping the sidecar without losing the session that does it.
# A rule without a target changes nothing for any packet, but makes the kernel track connections from now on: those
# that are open are known as such before the sidecar's rules come, and are not redirected into it.
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
current() { echo "$restart $(cat "$state/package" 2>/dev/null)"; }
as_configured() { systemctl -q is-active istio && [ "$(cat "$run/started" 2>/dev/null)" = "$(current)" ]; }
# What systemd runs before each start, after a reboot too.
prestart() {
	track
	mkdir -p "$run"
	[ ! -e "$state/token" ] || [ -e /var/run/secrets/tokens/istio-token ] || hand_over_token
	! [ -e "$state/unconfirmed" ] || [ -e "$run/timer" ] || set_timer
	# What runs after a start was taken back is the configuration before.
	if [ -e "$state/taken-back" ] || [ -e "$state/told" ]; then rm -f "$run/started"; else current >"$run/started"; fi
}
# The agent's own folder for the token does not outlive a reboot, nor has a VM that reboots before it is confirmed a
# certificate for sure. Until then root keeps the token.
hand_over_token() {
	install -d -o "$owner" -g "$owner" -m 755 /var/run/secrets
	install -d -o "$owner" -g "$owner" -m 700 /var/run/secrets/tokens
	put /var/run/secrets/tokens/istio-token 600 "$owner:$owner" <"$state/token" >/dev/null
}
# The token on standard input is kept until the VM is enrolled with it.
take_token() {
	doing='taking the token'
	umask 077
	cat >"$state/token.new"
	[ -s "$state/token.new" ] || fail no-token 'the token did not arrive' 'run up again'
	mv -f "$state/token.new" "$state/token"
}
enrol() {
	doing='enrolling the VM'
	umask 077
	[ ! -e "$state/token" ] || hand_over_token
	if [ -e "$state/taken-back" ] || [ -e "$state/told" ]; then
		echo "a start before was taken back: $(cat "$state/taken-back" "$state/told" 2>/dev/null)"
		bring_back
	fi
	take_identity
	enabled=$(systemctl is-enabled istio 2>/dev/null) || :
	# What systemd has to know of the unit, it was told when that changed: telling it takes its time.
	systemctl -q --no-reload enable istio 2>/dev/null
	if as_configured && intact; then
		# A start that a run before this one has not confirmed: this one gets its time for it.
		! [ -e "$state/unconfirmed" ] || set_timer
		echo 'the sidecar runs as configured'
		return
	fi
	start
}
# The files as `configure` wrote them, after a start with them was taken back.
bring_back() {
	bring_package_back
	rm -f "$state/taken-back" "$state/told"
	write_files
	remember configured
	systemctl daemon-reload
	rm -f "$run/started"
}
# The certificate of another identity or mesh would be shown to istiod instead of the token. It is kept until what needs
# another one is confirmed.
take_identity() {
	identity=$(grep -E '^(TRUST_DOMAIN|POD_NAMESPACE|SERVICE_ACCOUNT)=' /var/lib/istio/envoy/cluster.env | cat - /etc/certs/root-cert.pem | sha256sum)
	[ "$identity" != "$(cat "$state/identity" 2>/dev/null || :)" ] || return 0
	mkdir -p "$state/certs"
	for file in "$state/identity" /etc/certs/key.pem /etc/certs/cert-chain.pem; do
		! [ -e "$file" ] || mv -f "$file" "$state/certs/"
	done
	echo "$identity" >"$state/identity"
}
start() {
	active=$(systemctl is-active istio 2>/dev/null) || :
	answers=silent
	! resolves || answers=answers
	forget confirmed
	track
	[ -e "$state/unconfirmed" ] || facts_rules >"$state/rules"
	arm "$active $enabled $answers"
	rm -f "$run/started"
	echo 'starting the sidecar'
	# Connections that wait for an answer are tracked as such only once it has come.
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		sleep 0.1
		ss -Htn state established | awk '$2 > 0 { exit 1 }' && break
	done
	systemctl reset-failed istio 2>/dev/null || :
	systemctl restart --no-block istio
	# A connection that comes before the rules would prove nothing.
	end=$(($(date +%s) + 20))
	until [ -e "$run/started" ] && redirected nat; do
		[ "$(date +%s)" -lt "$end" ] || break
		sleep 0.1
	done
}
# Takes the VM out of service, then stops the sidecar for good.
drain() {
	doing='stopping the sidecar'
	forget confirmed
	disarm
	forgotten
	if [ -e /lib/systemd/system/istio.service ]; then
		systemctl -q disable istio 2>/dev/null || :
		systemctl stop istio
		echo 'stopped the sidecar'
	fi
	# A crashed agent leaves its rules behind.
	clean_rules || fail residue 'rules of the sidecar are left' "remove what 'iptables-save | grep ISTIO_' shows, then run again"
	rm -rf "$run"
	untrack
}
# The VM's entry is gone by now. Its own Envoy hears of that as the others do, so what it knows is what they know.
forgotten() {
	end=$(($(date +%s) + 10))
	while has curl && listed; do
		[ "$(date +%s)" -lt "$end" ] || { echo 'the mesh still lists this VM; stopping all the same'; break; }
		sleep 0.25
	done
}
listed() {
	curl -s -m 5 http://localhost:15000/clusters 2>/dev/null | grep -qE "^outbound\|.*::$address:[0-9]+::health_flags::healthy$"
}
