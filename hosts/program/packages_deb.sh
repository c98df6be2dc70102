# by_dpkg WHAT [FILE]: dpkg's part of packages.sh, on Debian, Ubuntu and their like.
by_dpkg() {
	case $1 in
		version) dpkg-query -W -f '${db:Status-Status} ${Version}' istio-sidecar 2>/dev/null | sed -n 's/^installed //p' ;;
		facts) dpkg-deb --show --showformat="\${Package} \${Architecture} \${Version}" "$2" ;;
		# Where a program says what it needs: at its beginning. To unpack all of it would take as long as to install it.
		programs) dpkg-deb --fsys-tarfile "$2" 2>/dev/null | tar -xO --wildcards '*/bin/envoy' 2>/dev/null | head -c 8000000 ;;
		install)
			# Configuration files that were changed stay as they are. Others may hold dpkg's lock.
			tries=0
			until fact=$(DEBIAN_FRONTEND=noninteractive dpkg --force-confold -i "$2" 2>&1); do
				tries=$((tries + 1))
				case $fact in *lock*) [ "$tries" = 30 ] || { sleep 2; continue; } ;; esac
				printf '%s\n' "$fact"
				return 1
			done
			;;
		remove) dpkg --purge istio-sidecar ;;
	esac
}
