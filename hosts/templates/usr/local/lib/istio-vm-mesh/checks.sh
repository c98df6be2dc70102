{# What must hold before anything changes; every problem of the host is found in one go. #}
problem() {
	if [ -z "$problems" ]; then problems=$(error "$@"); else more="$more${more:+,}{$(error "$@")}"; fi
}
checks() {
	problems='' more='' url='' sha256=''
	[ -d /run/systemd/system ] || problem no-systemd 'systemd is not running here' 'the sidecar is a systemd unit: use a VM that boots systemd'
	for tool in ip ss iptables sudo hostname sha256sum; do
		has "$tool" || problem missing-tool "$tool is not installed" 'install the packages iproute2 iptables sudo hostname coreutils'
	done
	if has dpkg; then
		architecture=$(dpkg --print-architecture)
		case $architecture in
			{% for name, package in packages %}
			{{ name }}) url={{ package.url | sh }} sha256={{ package.sha256 | sh }} ;;
			{% endfor %}
			*) problem architecture "no sidecar package for $architecture" 'set hosts.sidecar for it' ;;
		esac
	else
		problem package-family 'dpkg is not installed' 'use a VM of the Debian family'
	fi
	if ! installed; then
		has curl || has wget || problem missing-tool 'neither curl nor wget is installed' 'install one of them: the package comes by URL'
		free=$(df -Pk /usr/local /var | awk 'NR > 1 && (m == "" || $4 < m) { m = $4 } END { print m }')
		[ "$free" -ge 400000 ] || problem disk-full "$free KB are free, 400000 are needed" 'free some space on /usr/local and /var'
	fi
	! has ip || ip -o addr | awk '{ sub("/.*", "", $4); print $4 }' | grep -Fxq "$address" ||
		problem address "$address is on none of this VM's interfaces ($(hostname --all-ip-addresses 2>/dev/null))" 'declare the address that other workloads reach this VM at'
	if grep -q '^# istio-vm-mesh begin' /etc/hosts && ! grep -q '^# istio-vm-mesh end$' /etc/hosts; then
		problem hosts-block 'the block of istio-vm-mesh in /etc/hosts has lost its last line' 'remove what is left of it'
	fi
	taken=$(ss -Hlntup 2>/dev/null | awk '$5 ~ /:(15001|15006|15020|15021|15053|15090)$/ && !/"(envoy|pilot-agent)"/ { sub(/.*:/, "", $5); print $5, $7 }' | sort -u)
	[ -z "$taken" ] || problem port-taken "the sidecar's ports are in use: $taken" 'stop what listens there'
	reach_istiod
	[ -z "$problems" ] || report "$problems${more:+,\"more\":[$more]}"
}
{# A TLS connection as the agent makes it: by istiod's name and the mesh's root. Traffic of the user istio-proxy is not
    redirected, so a sidecar that is broken now does not hide that istiod is there. #}
reach_istiod() {
	pem=$(mktemp)
	content /etc/certs/root-cert.pem >"$pem"
	chmod 644 "$pem"
	set -- timeout 10 openssl s_client -brief -connect "$istiod_at" -servername "$istiod" -verify_hostname "$istiod" -verify_return_error -CAfile "$pem"
	! has curl || set -- curl -sS -o /dev/null --connect-timeout 5 --max-time 10 --cacert "$pem" --noproxy '*' --connect-to "::$istiod_at" "https://$istiod:$istiod_port/"
	! id "$owner" >/dev/null 2>&1 || set -- runuser -u "$owner" -- "$@"
	for attempt in 1 2 3; do
		status=0
		fact=$("$@" 2>&1 </dev/null) || status=$?
		case $status in 1 | 7 | 28 | 35) [ "$attempt" = 3 ] || sleep 2 ;; *) break ;; esac
	done
	rm -f "$pem"
	fact=$(printf '%s\n' "$fact" | head -n 2)
	case $status:$fact in
		0:* | 22:* | 52:* | 55:* | 56:* | 92:* | 127:*) ;;
		60:* | 1:*verif*) problem istiod-untrusted "$fact" "what answers at $istiod_at is not this mesh's istiod, or the VM's clock is off" ;;
		*) problem istiod-unreachable "$istiod_at: $fact" 'open the way from this VM to it: routes, firewalls, gateway' ;;
	esac
}
