# What a later look compares: facts as `item: line`, in an order that does not change. Each part is kept when the step
# that makes it so has ended, and forgotten when that step begins, so what is half done is never taken for a change.
remember() {
	mkdir -p "$state"
	{ date -u +%Y-%m-%dT%H:%M:%SZ; facts "$1"; } >"$state/as-$1.new"
	mv -f "$state/as-$1.new" "$state/as-$1"
}
forget() { rm -f "$state/as-$1"; }
facts() { case $1 in configured) facts_configured ;; *) facts_confirmed ;; esac; }
facts_configured() {
	facts_files
	sha256sum "$helper" "$state/desired" 2>/dev/null | while read -r sum file; do echo "${file#"$root"}: $sum"; done
	echo "package: istio-sidecar $(package_version) $(cat "$state/package" 2>/dev/null)"
	stat -c "package: %n %a %U:%G, %s bytes" "$root"/usr/local/bin/envoy "$root"/usr/local/bin/pilot-agent \
		"$root"/usr/local/bin/istio-start.sh "$root"/lib/systemd/system/istio.service 2>/dev/null || :
	routes_facts
}
# The managed files, all by few processes: a look at many VMs should cost them little.
facts_files() {
	set --
	names=" $(awk -F: '!seen[$1]++ { printf "%s ", $1 }' "$desired")"
	for path in $managed; do
		file=$root$path
		case $names in *" ${path##*/} "*) [ -e "$file" ] || continue ;; *) continue ;; esac
		case $path in
			/etc/hosts) sed -n '/^# istio-vm-mesh begin/,/^# istio-vm-mesh end$/s|^|/etc/hosts block: |p' "$file" ;;
			# The agent writes it anew, with a mode of its own and what other roots it knows.
			/etc/certs/root-cert.pem) content "$path" | grep -Fxf "$file" | sed "s|^|$path: |" ;;
			*) set -- "$@" "$file" ;;
		esac
	done
	[ $# -gt 0 ] || return 0
	{
		stat -c '%n mode: %a %U:%G %F' "$@"
		find "$@" -prune -type f -size -129 -exec awk '{ print FILENAME ": " $0 }' {} +
	} | tr -d '\000' | sed "s|^$root||"
}
facts_confirmed() {
	echo "istio.service: $(systemctl is-enabled istio 2>/dev/null)"
	echo "istio.service: $(systemctl is-active istio 2>/dev/null)"
	for file in key.pem cert-chain.pem; do
		! [ -s "$root/etc/certs/$file" ] || echo "certificate: /etc/certs/$file"
	done
	facts_rules
}
# The sidecar's rules and ours, whatever packet filter has them. A table of the older one comes to be by being listed,
# so all that are there are saved; in which order they are saved may change with a reboot.
facts_rules() {
	for tool in iptables iptables-legacy ip6tables ip6tables-legacy; do
		! has "$tool-save" || { echo "# $tool"; "$tool-save" 2>/dev/null || :; }
	done | awk '
		/^# ip6?tables(-legacy)?$/ { tools[++last] = $2 }
		/^\*/ { table = substr($1, 2) }
		/^:/ { sub(/^:/, "-N "); sub(/ .*/, "", $2); $0 = $1 " " $2 }
		/ISTIO_|istio-vm-mesh/ { found[last, table] = found[last, table] tools[last] ": " table ": " $0 "\n" }
		END {
			count = split("raw mangle nat filter", tables, " ")
			for (tool = 1; tool <= last; tool++) for (i = 1; i <= count; i++) printf "%s", found[tool, tables[i]]
		}'
}
# Whether what a sidecar that runs may have read is not what it is to read.
strays() {
	for path in /etc/istio/config/mesh /var/lib/istio/envoy/cluster.env; do
		content "$path" | cmp -s - "$root$path" || return 0
	done
	[ "$(content /etc/certs/root-cert.pem | grep -cFxf "$root/etc/certs/root-cert.pem" 2>/dev/null)" != "$(content /etc/certs/root-cert.pem | wc -l)" ]
}
# Whether the sidecar has a certificate that is valid. One that has run out lets an agent ask ever more rarely.
certified() {
	[ -s "$root/etc/certs/key.pem" ] && [ -s "$root/etc/certs/cert-chain.pem" ] || return 1
	certificate=''
	has openssl || return 0
	# One call for all, since it takes its time; before 1.1.1 it knows no -ext.
	set -- openssl x509 -in "$root/etc/certs/cert-chain.pem" -noout -serial -enddate -checkend 0
	certificate=$("$@" -ext subjectAltName 2>/dev/null) || certificate=$("$@" 2>/dev/null)
}
# Whether a sidecar that runs has what it needs at its next start, and its redirection is as it was when it was
# confirmed, if it ever was.
intact() {
	certified || return 1
	[ ! -e "$state/as-confirmed" ] || [ "$(facts_rules)" = "$(grep -E '^ip6?tables(-legacy)?: ' "$state/as-confirmed")" ]
}
# Reads, and changes nothing. The last line says that it has come to its end.
observe() {
	doing='observing the VM'
	! [ -e "$desired" ] || sed -n 's/^drift: /record /p' "$desired"
	for file in "$state/taken-back" "$state/told"; do
		! [ -e "$file" ] || { date -u -r "$file" +'left %Y-%m-%dT%H:%M:%SZ'; sed 's/^/is start: /' "$file"; }
	done
	for part in configured confirmed; do
		[ -e "$state/as-configured" ] && [ -e "$state/as-$part" ] || continue
		sed -e '1s/^/left /' -e '1!s/^/was /' "$state/as-$part"
		facts "$part" | sed 's/^/is /'
	done
	# It is read where this goes to: openssl takes longer than all the rest.
	! [ -s "$root/etc/certs/cert-chain.pem" ] || sed -n 's/^/certificate /p; /-----END/q' "$root/etc/certs/cert-chain.pem"
	[ -s "$root/etc/certs/key.pem" ] && [ -s "$root/etc/certs/cert-chain.pem" ] || echo bare
	echo end
}
