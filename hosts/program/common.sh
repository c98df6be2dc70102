# What the rest stands on: errors as one line of JSON, root, a deadline and a lock, and files written whole.
json() { printf '%s' "$1" | tr '\t\n\r' '   ' | tr -d '\000-\037' | cut -c1-400 | sed 's/\\/\\\\/g; s/"/\\"/g'; }
error() { printf '"code":"%s","fact":"%s","hint":"%s"' "$1" "$(json "$2")" "$(json "$3")"; }
report() { finished=y; printf '{"vm":"%s",%s}\n' "$(json "$vm")" "$1" >&2; exit 1; }
fail() { report "$(error "$@")"; }
# Runs this file again as root, alone on this host, with a deadline; says in JSON why it could not. What sudo is asked
# for is what hosts/sudoers.py allows.
enter() {
	case $1 in configure) take_desired; set -- configure "$taken" ;; esac
	set -- "$(deadline "$1")" "$@"
	status=0
	if [ "$(id -u)" = 0 ]; then
		alone "$@" || status=$?
	elif [ "$2" != configure ] && sudo -n /bin/sh "$0" as-root </dev/null 2>/dev/null; then
		sudo -n /bin/sh "$0" as-root "$@" || status=$?
	else
		problem no-root "$(id -un) is not root and has no passwordless sudo" 'connect as root, or let the user run this: make sudoers prints how'
		[ "$2" != configure ] || { choose_package; checks; }
		report "$problems"
	fi
	seconds=$1
	shift
	case $status in
		75) fail locked 'another run of istio-vm-mesh holds this VM' 'wait for it to end, then run up again' ;;
		124 | 137) fail deadline "$1 took longer than $seconds s" 'see what the VM is busy with, then run up again' ;;
	esac
	exit "$status"
}
deadline() { case $1 in configure) echo 420 ;; remove) echo 180 ;; observe) echo 8 ;; *) echo 120 ;; esac; }
alone() {
	seconds=$1 wait=90
	shift
	case $1 in observe) wait=3 ;; takeback) wait=10 ;; esac
	status=0
	timeout -k 5 "$seconds" flock -w "$wait" -E 75 /run/istio-vm-mesh.lock sh "$0" locked "$@" || status=$?
	# What is locked out must not be kept waiting by a session that hangs.
	[ "$1-$status" != takeback-75 ] || { status=0; sh "$0" locked "$@" || status=$?; }
	return "$status"
}
# put PATH MODE OWNER: the text on standard input becomes the file, by rename, if anything about it differs.
put() {
	folder=${1%/*}
	[ -d "$folder" ] || mkdir -p "$folder"
	cat >"$1.istio-vm-mesh"
	chown "$3" "$1.istio-vm-mesh"
	chmod "$2" "$1.istio-vm-mesh"
	if cmp -s "$1.istio-vm-mesh" "$1" && [ "$(stat -c %a:%U:%G "$1")" = "$(stat -c %a:%U:%G "$1.istio-vm-mesh")" ]; then
		rm "$1.istio-vm-mesh"
	else
		mv -f "$1.istio-vm-mesh" "$1"
		echo "changed $1"
	fi
}
# put_hosts BLOCK: /etc/hosts with our block last, or without it; every other byte stays.
put_hosts() {
	hosts=$(readlink -f "$root/etc/hosts")
	begin='# istio-vm-mesh begin' end='# istio-vm-mesh end' joined=
	[ -e "$hosts" ] || : >"$hosts"
	cp -p "$hosts" "$hosts.istio-vm-mesh"
	sed "/^$begin/,/^$end\$/d" "$hosts" >"$hosts.istio-vm-mesh"
	# A file without a last newline gets one for the block's sake; the block remembers.
	if grep -q "^$begin joined" "$hosts"; then
		rest=$(cat "$hosts.istio-vm-mesh")
		printf %s "$rest" >"$hosts.istio-vm-mesh"
	fi
	if [ -n "$1" ]; then
		[ -z "$(tail -c 1 "$hosts.istio-vm-mesh")" ] || joined=' joined'
		printf '%s%s%s\n%s\n%s\n' "${joined:+
}" "$begin" "$joined" "$1" "$end" >>"$hosts.istio-vm-mesh"
	fi
	if cmp -s "$hosts.istio-vm-mesh" "$hosts"; then
		rm "$hosts.istio-vm-mesh"
	else
		# A bind-mounted file cannot be renamed over.
		mv -f "$hosts.istio-vm-mesh" "$hosts" 2>/dev/null || { cat "$hosts.istio-vm-mesh" >"$hosts"; rm "$hosts.istio-vm-mesh"; }
		echo "changed /etc/hosts"
	fi
}
