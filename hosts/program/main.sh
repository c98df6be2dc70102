# What this program is asked to do. `locked` comes from the program itself, which has the VM to itself by then.
case ${1-}-${2-} in
	locked-configure) desired=$3 ;;
	locked-restore) desired=$state/confirmed.desired ;;
esac
read_settings
case ${1-} in
	locked) shift ;;
	prestart) prestart; exit ;;
	routes) set_routes; exit ;;
	no-routes) flush_routes; exit ;;
	as-root) shift; [ $# = 0 ] || alone "$@"; exit ;;
	*) enter "$@" ;;
esac
choose_package
trap 'untry; [ -n "${finished-}" ] || fail failed "$doing failed" "the lines above say why; run up again"' EXIT
trap 'finished=y; exit 143' TERM
doing=$1
case $1 in
	take-token | enrol | confirm | anew | not-back)
		[ "$2" = "$digest" ] || fail stale "this VM is configured as $digest, not as $2" 'run up again; it configures the VM first'
		;;
	# A machine whose address or name has changed is configured under the new one first, and then taken down under the
	# old one.
	remove)
		same() { case $2 in '' | "$3") ;; *) [ -z "$3" ] || { echo "left alone: it has another $1 by now"; finished=y; exit 0; } ;; esac; }
		same address "${2-}" "$address"
		same name "${3-}" "$vm"
		;;
esac
case $1 in
	configure) configure ;;
	take-token) take_token ;;
	enrol) enrol ;;
	confirm) confirm ;;
	anew) anew "$3" ;;
	not-back) not_back "$(cat)" ;;
	observe) observe ;;
	takeback) time_is_up "$2" ;;
	restore) write_files ;;
	remove) drain; remove ;;
esac
finished=y
exit 0
