{# Takes everything away again; a host that never had it passes. #}
remove() {
	doing='removing the sidecar'
	manager remove >/dev/null 2>&1 </dev/null || :
	[ -z "$copied" ] || rm -f "$copied"
	left=''
	[ "$(readlink /etc/istio)" != /var/lib/istio ] || gone /etc/istio
	gone /var/lib/istio /var/log/istio /etc/istio/config/mesh /etc/istio/proxy "$drop_in" "$state" "$helper"
	for name in root-cert.pem key.pem cert-chain.pem; do gone "/etc/certs/$name"; done
	for name in tokens workload-spiffe-uds workload-spiffe-credentials credential-uds; do gone "/var/run/secrets/$name"; done
	for folder in /etc/istio/config /etc/istio /etc/certs /var/run/secrets "${drop_in%/*}" "${helper%/*}"; do
		rmdir "$folder" 2>/dev/null || :
	done
	put_hosts ''
	if id "$owner" >/dev/null 2>&1; then userdel "$owner" 2>/dev/null || left="$left user $owner"; fi
	if getent group "$owner" >/dev/null; then groupdel "$owner" 2>/dev/null || left="$left group $owner"; fi
	if has systemctl; then
		systemctl daemon-reload
		systemctl reset-failed istio 2>/dev/null || :
	fi
	[ -z "$(package_version)" ] || left="$left package istio-sidecar"
	rm -f /run/istio-vm-mesh.lock
	[ -z "$left" ] || fail residue "could not remove:$left" 'remove it by hand, then run again'
	echo 'removed the sidecar and all that came with it'
}
gone() {
	for path in "$@"; do
		rm -rf "$path" 2>/dev/null || :
		[ ! -e "$path" ] || left="$left $path"
	done
}
