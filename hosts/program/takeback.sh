# Nobody is locked out: what a start of the sidecar does to the network is taken back, unless a new ssh connection
# confirms it within some time. The timer is systemd's own and needs neither ssh nor the sidecar.
# arm BEFORE: what was there before outlives a reboot, the timer does not: the next start of the sidecar sets it again.
# A timer that is stale by then finds another stamp.
arm() {
	[ -e "$state/unconfirmed" ] || echo "$1" >"$state/unconfirmed"
	set_timer
}
set_timer() {
	stop_timer
	stamp=$(date +%s)-$$
	mkdir -p "$run"
	echo "$stamp" >"$run/timer"
	systemd-run --quiet --collect --unit="istio-vm-mesh-takeback-$stamp" --on-active="$within" --timer-property=AccuracySec=1s \
		--property=Restart=on-failure --property=RestartSec=5 /bin/sh "$helper" takeback "$stamp"
}
stop_timer() { systemctl stop 'istio-vm-mesh-takeback-*.timer' 2>/dev/null || :; }
disarm() {
	stop_timer
	rm -rf "$state/unconfirmed" "$state/certs" "$state/rules" "$state/token" "$run/timer"
}
# What the timer runs.
time_is_up() {
	if [ -e "$state/unconfirmed" ] && [ "$(cat "$run/timer" 2>/dev/null)" = "$1" ]; then
		take_back "nobody confirmed it over a new ssh connection within $within s"
	fi
}
# take_back WHY: the host as it was before the sidecar was started; each step is tried whatever became of the others.
take_back() {
	active='' enabled=''
	forget configured
	forget confirmed
	read -r active enabled _ <"$state/unconfirmed" || :
	systemctl stop --no-block istio 2>/dev/null || :
	clean_rules || :
	systemctl stop istio 2>/dev/null || :
	clean_rules || :
	if [ -e "$state/confirmed" ]; then
		for file in identity key.pem cert-chain.pem; do
			! [ -e "$state/certs/$file" ] || mv -f "$state/certs/$file" "$([ "$file" = identity ] && echo "$state" || echo "$root/etc/certs")/" || :
		done
		package=$(put_package_back)
		sh "$state/confirmed" locked restore >/dev/null 2>&1 || :
		systemctl daemon-reload || :
		back='redirection and DNS capture were taken back, and the configuration before, with its block in /etc/hosts, was restored'
		back=$back$package
	else
		put_hosts '' >/dev/null || :
		back='redirection, DNS capture and the block in /etc/hosts were taken back'
	fi
	[ "$enabled" = enabled ] || systemctl -q disable istio 2>/dev/null || :
	[ "$active" = active ] || untrack || :
	case $active-$enabled in
		active-*) back="$back; the sidecar runs with it again" ;;
		*-enabled) back="$back; the sidecar was stopped" ;;
		*) back="$back; the sidecar was stopped and disabled" ;;
	esac
	# Before the start: what runs then is not what was to be confirmed.
	echo "$1: $back" >"$state/taken-back"
	[ "$active" != active ] || run_as_before ||
		echo "$1: ${back%; *}; the sidecar was stopped, since its rules were not those of before" >"$state/taken-back"
	disarm
}
# Nobody confirms this start, so it must be to the network what the one was that ran before.
run_as_before() {
	systemctl start --no-block istio || :
	end=$(($(date +%s) + 30)) others=0
	until [ "$(facts_rules)" = "$(cat "$state/rules")" ]; do
		! redirected nat || others=$((others + 1))
		if [ $others -ge 5 ] || [ "$(date +%s)" -ge "$end" ]; then
			systemctl stop istio 2>/dev/null || :
			clean_rules || :
			return 1
		fi
		sleep 1
	done
}
# Fails where a start was taken back that nobody has been told of yet.
tell_taken_back() {
	[ -e "$state/taken-back" ] || return 0
	mv -f "$state/taken-back" "$state/told"
	fail taken-back "$(cat "$state/told")" "correct what kept ssh or the sidecar from working, then run up again"
}
# redirected [TABLE]: whether there are rules of the sidecar's, by whatever packet filter.
redirected() {
	facts_rules | grep -q ": ${1:-[a-z]*}: .*ISTIO_" || { has nft && nft list tables 2>/dev/null | grep -q istio-proxy-; }
}
# The sidecar's own program removes the rules that it would make now; the rest goes by name.
clean_rules() {
	redirected || return 0
	! has istio-start.sh || (cd / && timeout 20 istio-start.sh clean >/dev/null 2>&1) || :
	facts_rules | grep ISTIO_ >"$run.rules" || :
	for action in -A/-D -N/-X; do
		sed -n "s/^\([^:]*\): \([^:]*\): ${action%/*}/\1 -w 10 -t \2 ${action#*/}/p" "$run.rules" | xargs -r -L 1 env || :
	done
	rm -f "$run.rules"
	if has nft; then
		nft list tables 2>/dev/null | grep istio-proxy- | sed 's/^/delete /' | nft -f - || :
	fi
	# Where inbound traffic was captured by TPROXY: tools/common/tproxy of Istio, mark and table by default.
	for family in -4 -6; do
		while ip "$family" rule del fwmark 1337 lookup 133 2>/dev/null; do :; done
		ip "$family" route flush table 133 2>/dev/null || :
	done
	! redirected
}
# Whether questions to the system's resolver are answered, be it by "no such name": none in time is what a loop looks
# like. The name is new each time, for no cache to answer.
resolves() {
	status=0
	timeout 3 getent ahostsv4 "v$(date +%s).istio-vm-mesh.example.com" >/dev/null 2>&1 || status=$?
	[ "$status" != 124 ]
}
resolves_still() { ! grep -q ' answers' "$state/unconfirmed" 2>/dev/null || resolves; }
