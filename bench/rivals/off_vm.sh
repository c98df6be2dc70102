# shellcheck shell=sh
systemctl -q disable --now istio 2>/dev/null
dpkg --purge istio-sidecar >/dev/null 2>&1
rm -rf /etc/certs /etc/istio /var/lib/istio /var/log/istio /var/run/secrets
sed -i '/istiod/d' /etc/hosts
iptables -D INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
userdel istio-proxy 2>/dev/null
! dpkg-query -W istio-sidecar 2>/dev/null
