{# The package, then files and blocks, each only where it differs. #}
installed() {
	[ "$(cat "$state/package" 2>/dev/null)" = "$sha256" ] &&
		[ "$(dpkg-query -W -f '${db:Status-Status}' istio-sidecar 2>/dev/null)" = installed ]
}
fetch() {
	if has curl; then
		curl -fsSL --connect-timeout 10 --max-time 240 --retry 2 -o "$2" "$1" 2>&1
	else
		wget -q -T 20 -t 2 -O "$2" "$1" 2>&1
	fi
}
reject() { rm -f "$deb"; rmdir "$state" 2>/dev/null || :; fail "$@"; }
install_package() {
	! installed || return 0
	mkdir -p "$state"
	deb=$state/package.deb
	fact=$(fetch "$url" "$deb") || reject package-download "$url: $fact" 'make the URL reachable from this VM, or correct hosts.sidecar'
	found=$(sha256sum <"$deb" | cut -c1-64)
	[ "$found" = "$sha256" ] || reject package-checksum "$url has SHA-256 $found, not $sha256" 'correct hosts.sidecar: URL and sha256 must belong together'
	tries=0
	until fact=$(DEBIAN_FRONTEND=noninteractive dpkg --force-confold -i "$deb" 2>&1 </dev/null); do
		tries=$((tries + 1))
		case $fact in *lock*) [ "$tries" -lt 30 ] || break; sleep 2 ;; *) break ;; esac
	done
	[ "$(dpkg-query -W -f '${db:Status-Status}' istio-sidecar 2>/dev/null)" = installed ] ||
		fail package-install "$(printf %s "$fact" | tail -n 3)" 'correct what dpkg complains about'
	rm -f "$deb"
	echo "$sha256" >"$state/package"
	echo "installed istio-sidecar $(dpkg-query -W -f '${Version}' istio-sidecar)"
}
write_files() {
	content /etc/certs/root-cert.pem | put "$root/etc/certs/root-cert.pem" 644 "$owner:$owner"
	content /var/lib/istio/envoy/cluster.env | put "$root/var/lib/istio/envoy/cluster.env" 644 "$owner:$owner"
	content /etc/istio/config/mesh | put "$root/etc/istio/config/mesh" 644 "$owner:$owner"
	content /etc/systemd/system/istio.service.d/istio-vm-mesh.conf | put "$drop_in" 644 root:root
	put_hosts "$(content /etc/hosts)"
	put "$helper" 755 root:root <"$0"
}
configure() {
	checks
	doing='installing the package'
	install_package
	doing='writing the files'
	install -d -o "$owner" -g "$owner" /etc/istio/proxy /etc/istio/config /etc/certs
	changes=$(write_files)
	[ -z "$changes" ] || printf '%s\n' "$changes"
	case $changes in *istio.service.d*) systemctl daemon-reload ;; esac
}
