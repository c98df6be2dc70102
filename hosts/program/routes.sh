# Ways into the cluster's network: a unit of their own sets them up when the VM boots, before the sidecar starts. The
# kernel knows them by the number of a routing protocol that nobody else uses, so no other route is ever touched.
flush_routes() { ip -4 route flush proto "$protocol"; }
unroute() {
	[ -e "$routes_unit" ] || return 0
	systemctl -q disable --now istio-vm-mesh-routes 2>/dev/null || :
	flush_routes 2>/dev/null || :
	rm -f "$routes_unit"
	systemctl daemon-reload
	echo 'removed the routes'
}
routed() { ip -4 route show "$1" via "$2" 2>/dev/null | grep -q .; }
# A route for the same range that is ours is replaced; anybody else's makes this fail.
add_route() {
	! routed "$1" "$2" || return 0
	verb=add
	! ip -4 route show "$1" proto "$protocol" 2>/dev/null | grep -q . || verb=replace
	ip -4 route "$verb" "$1" via "$2" proto "$protocol" 2>&1
}
# What the unit runs. A router that is not a neighbour yet, as a VPN's, is waited for.
set_routes() {
	end=$(($(date +%s) + 60)) lost=''
	while [ -n "$routes" ] && read -r range router; do
		until add_route "$range" "$router" >/dev/null; do
			[ "$(date +%s)" -lt "$end" ] || { lost="$lost $range via $router"; break; }
			sleep 0.5
		done
	done <<-END
		$routes
	END
	ip -4 route show proto "$protocol" | while read -r range _ router _; do
		printf '%s\n' "$routes" | grep -Fxq "$range $router" || ip -4 route del "$range" via "$router" proto "$protocol"
	done
	[ -z "$lost" ] || { echo "no route to$lost" >&2; exit 1; }
}
routes_facts() {
	[ -n "$routes" ] || return 0
	echo "istio-vm-mesh-routes.service: $(systemctl is-enabled istio-vm-mesh-routes 2>/dev/null) $(systemctl is-active istio-vm-mesh-routes 2>/dev/null)"
	while read -r range router; do
		! routed "$range" "$router" || echo "route: $range via $router"
	done <<-END
		$routes
	END
}
# The address that this session comes from; sudo takes it from our environment, not from its own.
ssh_client() {
	pid=$$ client=''
	while [ "${pid:-1}" -gt 1 ]; do
		client=$(tr '\000' '\n' 2>/dev/null <"/proc/$pid/environ" | sed -n 's/^SSH_CONNECTION=\([^ ]*\) .*/\1/p')
		[ -z "$client" ] || break
		pid=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status" 2>/dev/null)
	done
	case $client in *:*) ;; *) printf %s "$client" ;; esac
}
# within ADDRESS RANGE
within() {
	awk -v ip="$1" -v range="$2" 'function number(a, p) { split(a, p, "."); return ((p[1] * 256 + p[2]) * 256 + p[3]) * 256 + p[4] }
		BEGIN { split(range, r, "/"); size = 2 ^ (32 - (r[2] == "" ? 32 : r[2])); exit int(number(ip) / size) != int(number(r[1]) / size) }'
}
# captures RANGE ROUTER ADDRESS: whether the route would win over the one that leads to an address now.
captures() {
	within "$3" "$1" && ! ip -4 route get "$3" 2>/dev/null | grep -q " via $2 " || return 1
	bits=32
	case $1 in */*) bits=${1#*/} ;; esac
	[ "$bits" -ge "$(ip -4 route show match "$3" | awk '
		{ to = $1 ~ /^[a-z]/ && $1 != "default" ? $2 : $1; split(to, r, "/"); bits = to == "default" ? 0 : r[2] == "" ? 32 : r[2] + 0 }
		bits > most { most = bits }
		END { print most + 0 }')" ]
}
check_route() {
	hop=$(ip -4 route get "$2" 2>&1 | head -n 1) || :
	case $hop in
		"$2 dev "*) ;;
		*) problem route-router "$2, the router to $1, is no neighbour of this VM: $hop" "give a router in one of this VM's own networks" ;;
	esac
	other=$(ip -4 route show "$1" | grep -v " proto $protocol " | grep -v " via $2 " || :)
	[ -z "$other" ] || problem route-taken "$1 leads elsewhere on this VM: $other" 'take the range out of routes, or that route off the VM'
	if [ -n "$3" ] && captures "$@"; then
		problem route-captures-ssh "$1 via $2 would take the answers to $3, from where this VM is being set up" 'leave that address out: give smaller ranges'
	fi
}
# Whether istiod can be reached is seen over these routes; they go again unless the host is then configured. Without
# them, there is nothing to look for.
check_routes() {
	[ -n "$routes" ] || return 0
	has ip || return 1
	from=$(ssh_client) before=$problems
	while read -r range router; do check_route "$range" "$router" "$from"; done <<-END
		$routes
	END
	[ "$problems" = "$before" ] && [ "$(id -u)" = 0 ] || return 1
	tried=y
	while read -r range router; do
		fact=$(add_route "$range" "$router") || problem route-refused "$range via $router: $fact" 'correct routes'
	done <<-END
		$routes
	END
	[ "$problems" = "$before" ] || { untry; return 1; }
}
untry() {
	[ -n "$tried" ] || return 0
	tried=''
	if [ -e "$routes_unit" ]; then sh "$helper" routes >/dev/null 2>&1; else flush_routes; fi || :
}
install_routes() {
	[ -n "$routes" ] || { unroute; return 0; }
	changed=$(content /etc/systemd/system/istio-vm-mesh-routes.service | put "$routes_unit" 644 root:root)
	[ -z "$changed" ] || { echo "$changed"; systemctl daemon-reload; }
	systemctl -q enable istio-vm-mesh-routes 2>/dev/null
	systemctl reload-or-restart istio-vm-mesh-routes ||
		fail routes "$(journalctl -u istio-vm-mesh-routes -n 3 -o cat --no-pager 2>/dev/null)" "see 'journalctl -u istio-vm-mesh-routes' on the VM"
	tried=''
}
