{# Ways into the cluster's network: a unit of their own sets them up when the VM boots, before the sidecar starts. The
    kernel knows them by the number of a routing protocol that nobody else uses, so no other route is ever touched. #}
unroute() {
	[ -e "$routes_unit" ] || return 0
	systemctl -q disable --now istio-vm-mesh-routes 2>/dev/null || :
	ip -4 route flush proto {{ protocol }} 2>/dev/null || :
	rm -f "$routes_unit"
	systemctl daemon-reload
	echo 'removed the routes'
}
{% if routes %}
tried=''
{# each_route ACTION...: with each route's range and router. #}
each_route() {
	{% for route in routes %}
	"$@" {{ route.to | sh }} {{ route.via | sh }}
	{% endfor %}
}
routed() { ip -4 route show "$1" via "$2" 2>/dev/null | grep -q .; }
{# A route for the same range that is ours is replaced; anybody else's makes this fail. #}
add_route() {
	routed "$1" "$2" && return
	verb=add
	! ip -4 route show "$1" proto {{ protocol }} | grep -q . || verb=replace
	ip -4 route $verb "$1" via "$2" proto {{ protocol }}
}
{# What the unit runs. A router that is not a neighbour yet, as a VPN's, is waited for. #}
set_routes() {
	end=$(($(date +%s) + 60)) lost=''
	each_route wait_route
	ip -4 route show proto {{ protocol }} | while read -r range _ router _; do
		[ -n "$(each_route wanted "$range" "$router")" ] || ip -4 route del "$range" via "$router" proto {{ protocol }}
	done
	[ -z "$lost" ] || { echo "no route to$lost" >&2; exit 1; }
}
wait_route() {
	until add_route "$1" "$2" 2>/dev/null; do
		[ "$(date +%s)" -lt "$end" ] || { lost="$lost $1 via $2"; return 0; }
		sleep 0.5
	done
}
wanted() { [ "$1 $2" != "$3 $4" ] || echo yes; }
route_fact() { ! routed "$1" "$2" || echo "route: $1 via $2"; }
routes_facts() {
	echo "istio-vm-mesh-routes.service: $(systemctl is-enabled istio-vm-mesh-routes 2>/dev/null) $(systemctl is-active istio-vm-mesh-routes 2>/dev/null)"
	each_route route_fact
}
{# The address that this session comes from; sudo hides it from the environment, not from its own. #}
ssh_client() {
	pid=$$
	while [ "${pid:-1}" -gt 1 ]; do
		client=$(tr '\000' '\n' 2>/dev/null <"/proc/$pid/environ" | sed -n 's/^SSH_CONNECTION=\([^ ]*\) .*/\1/p')
		[ -z "$client" ] || break
		pid=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status" 2>/dev/null)
	done
	case $client in *:*) ;; *) printf %s "$client" ;; esac
}
{# within ADDRESS RANGE #}
within() {
	awk -v ip="$1" -v range="$2" 'function number(a, p) { split(a, p, "."); return ((p[1] * 256 + p[2]) * 256 + p[3]) * 256 + p[4] }
		BEGIN { split(range, r, "/"); size = 2 ^ (32 - (r[2] == "" ? 32 : r[2])); exit int(number(ip) / size) != int(number(r[1]) / size) }'
}
{# How many bits of an address the routes that there are tell apart. #}
told_apart() {
	ip -4 route show match "$1" | awk '{ to = $1 ~ /^(default|[0-9])/ ? $1 : $2; split(to, r, "/"); bits = to == "default" ? 0 : r[2] == "" ? 32 : r[2] + 0; if (bits > most) most = bits } END { print most + 0 }'
}
check_route() {
	hop=$(ip -4 route get "$2" 2>&1 | head -n 1) || :
	case $hop in
		"$2 dev "*) ;;
		*) problem route-router "$2, the router to $1, is no neighbour of this VM: $hop" "give a router in one of this VM's own networks" ;;
	esac
	other=$(ip -4 route show "$1" | grep -v ' proto {{ protocol }} ' | grep -v " via $2 " || :)
	[ -z "$other" ] || problem route-taken "$1 leads elsewhere on this VM: $other" 'take the range out of routes, or that route off the VM'
	client=$(ssh_client)
	bits=32
	case $1 in */*) bits=${1#*/} ;; esac
	if [ -n "$client" ] && within "$client" "$1" && [ "$bits" -ge "$(told_apart "$client")" ] && ! ip -4 route get "$client" | grep -q " via $2 "; then
		problem route-captures-ssh "$1 via $2 would take the answers to $client, from where this VM is being set up" 'leave that address out: give smaller ranges'
	fi
}
{# Whether istiod can be reached is seen over these routes; they go again unless the host is then configured. #}
check_routes() {
	! has ip || each_route check_route
	if [ -z "$problems" ] && [ "$(id -u)" = 0 ]; then
		tried=y
		each_route try_route
	fi
}
try_route() {
	fact=$(add_route "$1" "$2" 2>&1) || problem route-refused "$1 via $2: $fact" 'correct routes'
}
untry() {
	[ -n "$tried" ] || return 0
	tried=''
	if [ -e "$routes_unit" ]; then sh "$helper" routes >/dev/null 2>&1; else ip -4 route flush proto {{ protocol }}; fi || :
}
{% endif %}
install_routes() {
	{% if routes %}
	changed=$(content /etc/systemd/system/istio-vm-mesh-routes.service | put "$routes_unit" 644 root:root)
	[ -z "$changed" ] || { echo "$changed"; systemctl daemon-reload; }
	systemctl -q enable istio-vm-mesh-routes 2>/dev/null
	systemctl reload-or-restart istio-vm-mesh-routes ||
		fail routes "$(journalctl -u istio-vm-mesh-routes -n 3 -o cat --no-pager 2>/dev/null)" "see 'journalctl -u istio-vm-mesh-routes' on the VM"
	tried=''
	{% else %}
	unroute
	{% endif %}
}
