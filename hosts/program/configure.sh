# The package, then files and blocks, each only where it differs.
write_files() {
	# The agent writes the same again when it starts, with rights of its own: no difference, and no reason to restart.
	content /etc/certs/root-cert.pem | cmp -s - "$root/etc/certs/root-cert.pem" ||
		content /etc/certs/root-cert.pem | put "$root/etc/certs/root-cert.pem" 644 "$owner:$owner"
	content /var/lib/istio/envoy/cluster.env | put "$root/var/lib/istio/envoy/cluster.env" 644 "$owner:$owner"
	content /etc/istio/config/mesh | put "$root/etc/istio/config/mesh" 644 "$owner:$owner"
	content /etc/systemd/system/istio.service.d/istio-vm-mesh.conf | put "$drop_in" 644 root:root
	put_hosts "$(content /etc/hosts)"
}
configure() {
	checks
	forget configured
	keep_before
	# What takes everything away again, before there is something. A program that has its settings in itself stays until
	# they stand in a file.
	[ -e "$helper" ] && [ ! -e "$state/desired" ] || put "$helper" 755 root:root <"$0"
	# What runs would not be what is here by then.
	if ! installed || strays; then rm -f "$run/started"; fi
	doing='installing the package'
	new_unit=''
	install_package
	doing='writing the files'
	install -d -o "$owner" -g "$owner" /etc/istio/proxy /etc/istio/config /etc/certs
	changes=$(write_files; put "$state/desired" 644 root:root <"$desired"; put "$helper" 755 root:root <"$0")
	[ -z "$changes" ] || printf '%s\n' "$changes"
	case $new_unit$changes in y* | *istio.service.d*) systemctl daemon-reload ;; esac
	install_routes
	remember configured
}
