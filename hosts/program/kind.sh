# What kind of host this is, as far as packages go. It is also run on its own, before anything is sent.
has() { command -v "$1" >/dev/null 2>&1; }
# The package manager that the system itself was installed with, should a host have both.
package_family() {
	if has dpkg-query && dpkg-query -W dpkg >/dev/null 2>&1; then echo deb; elif has rpm; then echo rpm; fi
}
# architecture FAMILY: by Debian's names.
architecture() {
	case $1 in
		deb) dpkg --print-architecture ;;
		rpm) rpm --eval %_arch | sed 's/x86_64/amd64/; s/aarch64/arm64/' ;;
	esac
}
