# The sidecar's package: which one this host takes, whether it is the one that was meant, and how it gets installed.
# What a package manager does in its own way stands in packages_deb.sh and packages_rpm.sh.
manager() { case $family in deb) by_dpkg "$@" ;; rpm) by_rpm "$@" ;; esac; }
choose_package() {
	family=$(package_family)
	url='' copied='' sha256=''
	architecture=$(architecture "$family")
	while read -r kind checksum how source; do
		[ "$kind" = "$family-$architecture" ] || continue
		sha256=$checksum
		case $how in url) url=$source ;; copied) copied=$source ;; esac
	done <<-END
		$packages
	END
}
package_version() { manager version; }
# SHA-256 of a file; openssl takes a third of the time, where it is there and the processor knows how.
digest_of() { { openssl dgst -sha256 -r "$1" 2>/dev/null || sha256sum "$1"; } | cut -c1-64; }
installed() { [ "$(cat "$state/package" 2>/dev/null)" = "$sha256" ] && [ -n "$(package_version)" ]; }
# newer A B: whether version A is later than B in its first three numbers; what else a version says is not ordered.
newer() {
	awk -v a="$1" -v b="$2" 'BEGIN {
		split(a, x, /[^0-9]+/); split(b, y, /[^0-9]+/)
		for (i = 1; i <= 3; i++) if (x[i] + 0 != y[i] + 0) exit !(x[i] + 0 > y[i] + 0)
		exit 1
	}'
}
# Gets the package and looks into it; nothing is installed yet. Run by the checks.
check_package() {
	mkdir -p "$state"
	new=$state/new.$family
	if ! fact=$(fetch "$new"); then
		problem package-download "$fact" 'make the URL reachable from this VM, or correct hosts.sidecar'
		return
	fi
	found=$(digest_of "$new")
	if [ "$found" != "$sha256" ]; then
		problem package-checksum "${url:-$copied} has SHA-256 $found, not $sha256" 'correct hosts.sidecar: package and sha256 must belong together'
		return
	fi
	# Name, architecture, version.
	fact=$(manager facts "$new" 2>&1) || :
	case $fact in
		"istio-sidecar $architecture "[0-9]*) ;;
		*) problem package-wrong "it is: $fact" "correct hosts.sidecar: it must be istio-sidecar for $architecture"; return ;;
	esac
	! newer "${fact##* }" "$istio_version" ||
		problem package-newer "the sidecar is ${fact##* }, istiod is $istio_version" 'upgrade istiod first: a sidecar must never be newer'
	need=$(manager programs "$new" | grep -aoE 'GLIBC_2\.[0-9]+' | sort -uV | tail -n 1)
	need=${need#GLIBC_} have=$(getconf GNU_LIBC_VERSION 2>/dev/null || echo 'no glibc')
	! newer "${need:-0}" "${have#glibc }" ||
		problem libc "the package's programs need glibc $need, this VM has ${have#glibc }" 'use a newer system, or a package that is built for this one'
}
# fetch FILE: the package: the copy that came over ssh, which lies where the session starts, the one that was
# installed last time, or what the URL leads to.
fetch() {
	for source in "$copied" "$state/package.$family" "$state/previous.$family" "$state/refused.$family"; do
		! [ "$(digest_of "$source" 2>/dev/null)" = "$sha256" ] || { cp "$source" "$1"; return; }
	done
	if [ -n "$copied" ]; then
		echo "$copied is not in $PWD"
		return 1
	elif has curl; then
		fact=$(curl -fsSL --connect-timeout 10 --max-time 240 --retry 2 -o "$1" "$url" 2>&1) || { echo "$url: $fact"; return 1; }
	else
		fact=$(wget -q -T 20 -t 2 -O "$1" "$url" 2>&1) || { echo "$url: $fact"; return 1; }
	fi
}
install_package() {
	if ! installed; then
		keep_package
		if ! fact=$(manager install "$new" 2>&1 </dev/null); then
			# What failed first stands at the top.
			why=$(printf '%s\n' "$fact" | sed -n '/error/,$p' | head -n 2)
			fail package-install "${why:-$(printf %s "$fact" | tail -n 3)}" 'correct what the package manager complains about'
		fi
		mv -f "$new" "$state/package.$family"
		echo "$sha256" >"$state/package"
		new_unit=y
		echo "installed istio-sidecar $(package_version)"
	fi
	forget_copies
}
# Those too that came for a host of another kind.
forget_copies() { rm -f ./istio-vm-mesh-*.package ./istio-vm-mesh-*.package.tmp ./.istio-vm-mesh-*; }
