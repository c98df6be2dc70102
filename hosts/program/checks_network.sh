# What a sidecar needs of a host's network.
check_address() {
	! has ip || ip -o addr | awk '{ sub("/.*", "", $4); print $4 }' | grep -Fxq "$address" ||
		problem address "$address is on none of this VM's interfaces ($(hostname --all-ip-addresses 2>/dev/null))" 'declare the address that other workloads reach this VM at'
}
# The value that cluster.env is going to have for a name.
setting() { content /var/lib/istio/envoy/cluster.env | sed -n "s/^$1='\\(.*\\)'\$/\\1/p"; }
# Ports that listen, each as `number process`.
listening() { ss -Hlntup 2>/dev/null | awk '{ sub(/.*:/, "", $5); print $5, $7 }' | sort -u; }
check_ports() {
	taken=$(listening | awk '$1 ~ /^(15001|15006|15020|15021|15053|15090)$/ && !/"(envoy|pilot-agent)"/')
	[ -z "$taken" ] || problem port-taken "the sidecar's ports are in use: $taken" 'stop what listens there'
	# The sidecar takes over what the application is declared to listen on, or all but its own and port 22.
	inbound=,$(setting ISTIO_INBOUND_PORTS), spared=,$(setting ISTIO_LOCAL_EXCLUDE_PORTS),
	for port in $(listening | sed -n 's/ .*"\(sshd\|dropbear\)".*//p'); do
		case $inbound in
			*",$port,"*) ;;
			',*,') case $spared in *",$port,"*) continue ;; esac ;;
			*) continue ;;
		esac
		problem ssh-port "sshd listens on $port, which the sidecar would take over" "let the workload's ports name the application's only, and without $port"
	done
}
# DNS capture sends what goes to the nameservers of /etc/resolv.conf to the agent, unless the agent asks itself. A
# server on this host that asks one of them in turn gets its own question back.
check_resolvers() {
	[ "$(setting ISTIO_META_DNS_CAPTURE)" = true ] || return 0
	servers=$(sed -n 's/^nameserver[[:space:]]*\([^[:space:]#;]*\).*/\1/p' "$root/etc/resolv.conf" 2>/dev/null)
	here='' others=''
	for server in $servers; do
		if ip -o addr 2>/dev/null | awk '{ sub("/.*", "", $4); print $4 }' | grep -Fxq "$server"; then here="$here $server"; else
			case $server in 127.*) here="$here $server" ;; *) others="$others $server" ;; esac
		fi
	done
	serving=$(listening | awk '$1 == 53 { print $2; exit }')
	if [ -z "$servers" ]; then
		problem resolvers '/etc/resolv.conf names no nameserver' 'name one: the sidecar answers the questions that go there'
	elif [ -n "$serving" ] && [ -n "$here" ] && [ -n "$others" ]; then
		problem dns-loop "/etc/resolv.conf names this VM's own DNS server ($here ) and others ($others ), which that server may ask too" 'name there only the own one, and give it its upstream servers elsewhere'
	elif [ -n "$serving" ] && [ "$(setting CAPTURE_ALL_DNS)" = true ]; then
		problem dns-loop "CAPTURE_ALL_DNS takes the questions of this VM's own DNS server, $serving, too" 'leave CAPTURE_ALL_DNS out, or stop that server'
	fi
}
# As root: reading the rules shows whether the program, its kernel modules and the right to use them are there.
check_packet_filter() {
	if [ "$(setting NATIVE_NFTABLES)" = true ]; then set -- nft list tables; else set -- iptables -w 10 -t nat -S; fi
	if ! has "$1"; then
		problem missing-tool "$1 is not installed" 'install the package iptables (nftables for nft)'
	elif ! fact=$("$@" 2>&1); then
		problem packet-filter "$*: $fact" "the sidecar's rules need it: load the kernel's modules, or use another kernel"
	fi
}
# Traffic of the user istio-proxy is not redirected, so a sidecar that is broken now does not hide that istiod is there.
direct() {
	if [ "$(id -u)" = 0 ] && id "$owner" >/dev/null 2>&1; then runuser -u "$owner" -- "$@"; else "$@"; fi
}
# A TLS connection as the agent makes it: by istiod's name and the mesh's root. A gateway that has just been made takes a
# moment to lead there, or leads a new revision's name to the old one.
check_istiod() {
	pem=$(mktemp)
	content /etc/certs/root-cert.pem >"$pem"
	chmod 644 "$pem"
	set -- timeout 10 openssl s_client -brief -connect "$istiod_at" -servername "$istiod" -verify_hostname "$istiod" -verify_return_error -CAfile "$pem"
	! has curl || set -- curl -sS -o /dev/null --connect-timeout 5 --max-time 10 --cacert "$pem" --noproxy '*' --connect-to "::$istiod_at" "https://$istiod:$istiod_port/"
	for attempt in 1 2 3; do
		status=0
		fact=$(direct "$@" 2>&1 </dev/null) || status=$?
		case $status in 1 | 7 | 28 | 35 | 60) [ "$attempt" = 3 ] || sleep 2 ;; *) break ;; esac
	done
	rm -f "$pem"
	fact=$(printf '%s\n' "$fact" | head -n 2)
	case $status:$fact in
		0:* | 22:* | 52:* | 55:* | 56:* | 92:* | 127:*) ;;
		60:* | 1:*verif*) problem istiod-untrusted "$fact" "what answers at $istiod_at is not this mesh's istiod, or the VM's clock is off" ;;
		*) problem istiod-unreachable "$istiod_at: $fact" 'open the way from this VM to it: routes, firewalls, gateway' ;;
	esac
}
# istiod's webhooks answer with its time, which is the API server's. It is only compared, so nothing is verified: a
# clock that is off makes every certificate wrong.
check_clock() {
	[ -n "$clock_at" ] && has curl || return 0
	theirs=$(direct curl -sS -k -o /dev/null -D - --connect-timeout 5 --max-time 10 --noproxy '*' --connect-to "::$clock_at" "https://$istiod/" 2>/dev/null | tr -d '\r' | sed -n 's/^[Dd]ate: //p')
	[ -n "$theirs" ] || return 0
	off=$(($(date +%s) - $(date -d "$theirs" +%s)))
	[ "${off#-}" -le 60 ] || problem clock "this VM's clock is $off s off istiod's, which says $theirs" 'set the clock, and keep it set by NTP: certificates are valid by it'
}
