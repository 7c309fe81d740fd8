# Sets PROMETHEUS to a Prometheus of Debian, unpacked aside, where there is one; leaves it unset
# otherwise. To be sourced.
if [ -z "${PROMETHEUS:-}" ]; then
  folder="$HOME/.cache/retcd-prometheus"
  if ! [ -x "$folder/usr/bin/prometheus" ] && command -v apt-get >/dev/null; then
    (
      mkdir -p "$folder" && cd "$folder" && (apt-get download prometheus || {
        apt-get update && apt-get download prometheus
      }) && dpkg-deb -x prometheus_*.deb .
    ) >/dev/null 2>&1 || true
  fi
  if [ -x "$folder/usr/bin/prometheus" ]; then
    export PROMETHEUS="$folder/usr/bin/prometheus"
  fi
  unset folder
fi
