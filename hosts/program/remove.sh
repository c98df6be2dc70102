# Takes everything away again and puts back what was there before; a host that never had it passes.
# What this host had before the first change.
keep_before() {
	[ ! -e "$state/package" ] && [ ! -e "$state/before" ] || return 0
	mkdir -p "$state"
	(cd "$root/" && for path in etc/istio etc/certs var/lib/istio etc/systemd/system/istio.service.d; do
		[ ! -e "$path" ] && [ ! -L "$path" ] || echo "$path"
	done) >"$state/before.paths"
	# There may be a private key among it.
	(umask 077 && tar -C "$root/" -T "$state/before.paths" -cf "$state/before.tar")
	{
		echo "package $(package_version)"
		echo "unit $(systemctl is-active istio 2>/dev/null) $(systemctl is-enabled istio 2>/dev/null)"
		! id "$owner" >/dev/null 2>&1 || echo user
		! getent group "$owner" >/dev/null || echo group
		[ ! -d "$root/var/log/istio" ] || echo logs
	} >"$state/before.new"
	rm "$state/before.paths"
	mv "$state/before.new" "$state/before"
}
had() { grep -qE "^$1" "$state/before" 2>/dev/null; }
remove() {
	doing='removing the sidecar'
	left=''
	unroute
	had 'package .' || manager remove >/dev/null 2>&1 </dev/null || :
	forget_copies
	[ "$(readlink /etc/istio)" != /var/lib/istio ] || gone /etc/istio
	gone /var/lib/istio /etc/istio/config/mesh /etc/istio/proxy "$drop_in"
	had logs || gone /var/log/istio
	for name in root-cert.pem key.pem cert-chain.pem; do gone "/etc/certs/$name"; done
	for name in tokens workload-spiffe-uds workload-spiffe-credentials credential-uds; do gone "/var/run/secrets/$name"; done
	for folder in /etc/istio/config /etc/istio /etc/certs /var/run/secrets "${drop_in%/*}"; do
		rmdir "$folder" 2>/dev/null || :
	done
	put_hosts ''
	! [ -s "$state/before.tar" ] || tar -C "$root/" -xpf "$state/before.tar" || left="$left what was in $state/before.tar"
	if ! had user && id "$owner" >/dev/null 2>&1; then userdel "$owner" 2>/dev/null || left="$left user $owner"; fi
	if ! had group && getent group "$owner" >/dev/null; then groupdel "$owner" 2>/dev/null || left="$left group $owner"; fi
	if has systemctl; then
		systemctl daemon-reload
		systemctl reset-failed istio 2>/dev/null || :
	fi
	if had 'package .'; then
		as_before
	elif [ -n "$(package_version)" ]; then
		left="$left package istio-sidecar"
	fi
	[ -n "$left" ] || gone "$state" "$helper"
	rmdir "${helper%/*}" 2>/dev/null || :
	rm -f /run/istio-vm-mesh.lock
	[ -z "$left" ] || fail residue "could not remove:$left" 'remove it by hand, then run again'
	echo 'removed the sidecar and all that came with it'
}
# A sidecar that was there before stays, and is as it was but for its version.
as_before() {
	was=$(sed -n 's/^package //p' "$state/before")
	[ "$was" = "$(package_version)" ] || echo "istio-sidecar $(package_version) stays, in place of $was, which was here before"
	! had 'unit .* enabled' || systemctl -q enable istio 2>/dev/null || left="$left enabling istio.service"
	! had 'unit active ' || systemctl start istio || left="$left starting istio.service"
}
gone() {
	for path in "$@"; do
		rm -rf "$path" 2>/dev/null || :
		[ ! -e "$path" ] || left="$left $path"
	done
}
