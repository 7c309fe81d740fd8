# Sets GO35, CTL35, … to the programs of Go's etcds, where the data beside the clone knows how to
# get them; sets nothing otherwise. To be sourced from the root of the clone.
beside="$(dirname "$PWD")/shared"
if [ -z "${RETCD_TESTDATA:-}" ] && [ -d "$beside/go-data" ]; then
  export RETCD_TESTDATA="$beside"
fi
if [ -n "${RETCD_TESTDATA:-}" ] && [ -f "$RETCD_TESTDATA/tools/peers.sh" ]; then
  # A program that cannot be had leaves its variable unset. The caller's "set -euo pipefail" would end
  # the search, or the run without a word.
  set +euo pipefail
  # shellcheck disable=SC1091
  source "$RETCD_TESTDATA/tools/peers.sh"
  set -euo pipefail
  # The comparisons are with a 3.5.30; 3.5.1, which stands in for it, has faults of its own.
  if [ "${GO35:-}" = "${GO351:-}" ]; then
    unset GO35 CTL35
  fi
fi
