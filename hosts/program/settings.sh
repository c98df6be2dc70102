set -eu
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# The protocol is the number by which the kernel knows our routes; none of those in iproute2's rt_protos.
root='' owner=istio-proxy protocol=151 problems='' more='' tried=''
helper=$root/usr/local/lib/istio-vm-mesh/host state=$root/var/lib/istio-vm-mesh run=$root/run/istio-vm-mesh
drop_in=$root/etc/systemd/system/istio.service.d/istio-vm-mesh.conf
routes_unit=$root/etc/systemd/system/istio-vm-mesh-routes.service
# What this VM is to become: settings, one a line, then each line of each managed file as `name: line`, then `end`, and
# what had changed on the VM as `drift: line`. All of it is data: it is compared and written, and nothing of it is run.
desired=$state/desired
read_settings() {
	vm='' address='' digest='' restart='' istiod='' istiod_port='' istiod_at='' clock_at='' istio_version='' existing=refuse
	packages='' routes='' within=''
	[ -e "$desired" ] || return 0
	while IFS= read -r line; do
		value=${line#*: }
		case $line in
			'vm: '*) vm=$value ;;
			'address: '*) address=$value ;;
			'digest: '*) digest=$value ;;
			'restart: '*) restart=$value ;;
			'istiod: '*) istiod=$value ;;
			'istiod-port: '*) istiod_port=$value ;;
			'istiod-at: '*) istiod_at=$value ;;
			'clock-at: '*) clock_at=$value ;;
			'istio-version: '*) istio_version=$value ;;
			'existing: '*) existing=$value ;;
			'confirm-within: '*) within=$value ;;
			'package: '*) packages="$packages${packages:+
}$value" ;;
			'route: '*) routes="$routes${routes:+
}$value" ;;
			'mesh: '*) break ;;
		esac
	done <"$desired"
	case $within in '' | *[!0-9]*) within=120 ;; esac
	patience=$((within / 2))
	[ "$patience" -le 60 ] || patience=60
}
managed="/etc/istio/config/mesh /var/lib/istio/envoy/cluster.env /etc/certs/root-cert.pem /etc/hosts \
/etc/systemd/system/istio.service.d/istio-vm-mesh.conf /etc/systemd/system/istio-vm-mesh-routes.service"
# The lines of a managed file, which bear its name without the folders.
content() { sed -n "s|^${1##*/}: ||p" "$desired"; }
# For configure: from standard input. Where the connection breaks meanwhile, the rest is missing.
take_desired() {
	taken=$(mktemp /tmp/istio-vm-mesh.XXXXXX)
	trap 'rm -f "$taken"' EXIT
	trap 'exit 129' HUP INT TERM
	timeout 60 cat >"$taken" || :
	desired=$taken
	read_settings
	grep -qx end "$taken" || fail incomplete 'only a part of what it is to become has reached this VM' 'run up again'
}
