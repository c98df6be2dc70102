# The way back of a change that did not work out: the package before, which is kept until the next one is confirmed.
# Run before another package takes its place; one that was never confirmed is nothing to go back to.
keep_package() {
	[ -e "$state/confirmed" ] && [ -e "$state/package.$family" ] && [ ! -e "$state/previous.$family" ] || return 0
	ln -f "$state/package.$family" "$state/previous.$family"
}
# Says what it has put back, if anything. The one that goes is kept for another try.
put_package_back() {
	[ -e "$state/previous.$family" ] || return 0
	manager install "$state/previous.$family" >/dev/null 2>&1 </dev/null || :
	mv -f "$state/package.$family" "$state/refused.$family" || :
	mv -f "$state/previous.$family" "$state/package.$family"
	sha256sum <"$state/package.$family" | cut -c1-64 >"$state/package"
	echo "; the package is istio-sidecar $(package_version) again"
}
forget_packages() { rm -f "$state/previous.$family" "$state/refused.$family"; }
# Where the package that was meant was taken back.
bring_package_back() {
	! installed || return 0
	check_package
	[ -z "$problems" ] || report "$problems"
	install_package
}
# Beside the package, the program and what it is to bring about: either may change.
keep_confirmed() {
	cp "$desired" "$state/confirmed.new"
	mv -f "$state/confirmed.new" "$state/confirmed.desired"
	cp "$0" "$state/confirmed.new"
	mv -f "$state/confirmed.new" "$state/confirmed"
}
# not_back WHY: the mesh says that the VM is not what it was before the change.
not_back() {
	doing='taking the start back'
	tell_taken_back
	if as_configured && ready; then
		give_up "$(error not-back "$1" 'see the application that the probe asks, and /var/log/istio on the VM')" "$1"
	fi
	give_up "$(diagnose)" "$1"
}
