# What must hold before anything changes; every problem of the host is found in one go, and told in one report.
problem() {
	if [ -z "$problems" ]; then problems=$(error "$@"); else more="$more${more:+,}{$(error "$@")}"; fi
}
# Without root's rights, what needs none is still looked at.
checks() {
	check_system
	check_existing
	check_disk
	check_address
	check_ports
	check_resolvers
	! check_routes || check_istiod
	check_clock
	case $family-$sha256 in
		-*) problem package-family 'neither dpkg nor rpm is here' 'use a VM of the Debian or the Red Hat family' ;;
		*-) problem architecture "hosts.sidecar names no $family for $architecture" "give hosts.sidecar.$architecture.$family" ;;
		*) [ "$(id -u)" != 0 ] || installed || [ -n "$full" ] || check_package ;;
	esac
	[ "$(id -u)" != 0 ] || check_packet_filter
	[ -n "$problems" ] || return 0
	rm -f "$state"/new.*
	rmdir "$state" 2>/dev/null || :
	report "$problems${more:+,\"more\":[$more]}"
}
check_system() {
	[ -d "$root/run/systemd/system" ] || problem no-systemd 'systemd is not running here' 'the sidecar is a systemd unit: use a VM that boots systemd'
	for tool in ip ss sudo hostname sha256sum; do
		has "$tool" || problem missing-tool "$tool is not installed" 'install the packages iproute2 (iproute), sudo, hostname, coreutils'
	done
	has curl || has wget || problem missing-tool 'neither curl nor wget is installed' 'install one of them'
	if grep -q '^# istio-vm-mesh begin' "$root/etc/hosts" && ! grep -q '^# istio-vm-mesh end$' "$root/etc/hosts"; then
		problem hosts-block 'the block of istio-vm-mesh in /etc/hosts has lost its last line' 'remove what is left of it'
	fi
}
# A sidecar that is there before this program has been, unless it is to be taken over.
check_existing() {
	[ "$existing" = refuse ] && [ ! -e "$state" ] || return 0
	found=''
	[ -z "$(package_version)" ] || found=" package istio-sidecar $(package_version)"
	for path in /usr/local/bin/pilot-agent /usr/local/bin/envoy /lib/systemd/system/istio.service /etc/systemd/system/istio.service; do
		[ ! -e "$root$path" ] || found="$found $path"
	done
	[ -z "$found" ] || problem foreign-sidecar "istio-vm-mesh did not install:$found" 'remove it, or set hosts.existingSidecar to adopt'
}
check_disk() {
	full=''
	! installed || return 0
	free=$(df -Pk /usr/local /var | awk 'NR > 1 && (m == "" || $4 < m) { m = $4 } END { print m }')
	[ "$free" -ge 400000 ] || full=y
	[ -z "$full" ] || problem disk-full "$free KB are free, 400000 are needed" 'free some space on /usr/local and /var'
}
