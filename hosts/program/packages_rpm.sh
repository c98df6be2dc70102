# by_rpm WHAT [FILE]: rpm's part of packages.sh, on Fedora, RHEL, SUSE and their like; architectures by Debian's names.
by_rpm() {
	case $1 in
		version) rpm -q --qf 'installed %{VERSION}\n' istio-sidecar 2>/dev/null | sed -n 's/^installed //p' ;;
		facts) rpm -qp --qf '%{NAME} %{ARCH} %{VERSION}' "$2" 2>/dev/null | sed 's/x86_64/amd64/; s/aarch64/arm64/' ;;
		programs) rpm2cpio "$2" ;;
		# Configuration files that were changed stay: the package marks its own so. rpm waits for its lock by itself.
		install) rpm -U --oldpackage --replacepkgs "$2" ;;
		remove) rpm -e istio-sidecar ;;
	esac
}
