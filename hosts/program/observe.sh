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
	sed -n 's|^\(/[^:]*\): .*|\1|p' "$desired" | awk '!seen[$0]++' | while read -r path; do
		file=$root$path
		if [ "$path" = /etc/hosts ]; then
			sed -n '/^# istio-vm-mesh begin/,/^# istio-vm-mesh end$/s|^|/etc/hosts block: |p' "$file" 2>/dev/null || :
		elif [ "$path" = /etc/certs/root-cert.pem ] && [ -e "$file" ]; then
			# The agent writes it anew, with a mode of its own and what other roots it knows.
			content "$path" | grep -Fxf "$file" | sed "s|^|$path: |"
		elif [ -e "$file" ]; then
			stat -c "$path mode: %a %U:%G %F" "$file"
			head -c 65536 "$file" | tr -d '\000' | sed -e "s|^|$path: |" -e "\$a\\"
		fi
	done
	for file in "$helper" "$state/desired"; do
		! [ -e "$file" ] || echo "${file#"$root"}: $(sha256sum <"$file" | cut -c1-64)"
	done
	echo "package: istio-sidecar $(package_version) $(cat "$state/package" 2>/dev/null)"
	for file in "$root"/usr/local/bin/envoy "$root"/usr/local/bin/pilot-agent "$root"/usr/local/bin/istio-start.sh "$root"/lib/systemd/system/istio.service; do
		! [ -e "$file" ] || stat -c "package: %n %a %U:%G, %s bytes" "$file"
	done
	routes_facts
}
facts_confirmed() {
	echo "istio.service: $(systemctl is-enabled istio 2>/dev/null)"
	echo "istio.service: $(systemctl is-active istio 2>/dev/null)"
	for file in key.pem cert-chain.pem; do
		! [ -s "$root/etc/certs/$file" ] || echo "certificate: /etc/certs/$file"
	done
	facts_rules
}
facts_rules() {
	for tables in iptables iptables-legacy ip6tables ip6tables-legacy; do
		has $tables || continue
		for table in raw mangle nat filter; do
			rules $tables $table | sed -n -E "/ISTIO_|istio-vm-mesh/s/^/$tables: $table: /p"
		done
	done
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
	! has openssl || openssl x509 -in "$root/etc/certs/cert-chain.pem" -noout -checkend 0 >/dev/null 2>&1
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
	if has openssl && [ -s "$root/etc/certs/cert-chain.pem" ]; then
		openssl x509 -in "$root/etc/certs/cert-chain.pem" -noout -serial -enddate | sed 's/^/certificate /'
	fi
	certified || echo bare
	echo end
}
