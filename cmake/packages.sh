# SPDX-License-Identifier: Apache-2.0
# Sourced by the run scripts: require_packages NAME... installs the Debian packages that are missing, or, with
# SARA_SKIP_PACKAGES=1, takes what they hold for granted, wherever it is.

require_packages() {
  [[ ${SARA_SKIP_PACKAGES:-0} == 0 ]] || return 0
  if ! command -v dpkg-query >/dev/null; then
    echo "Not a Debian system: taking for granted what these packages hold: $*"
    return
  fi
  local name missing=()
  for name in "$@"; do
    [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || missing+=("$name")
  done
  ((${#missing[@]})) || return 0
  if ((EUID == 0)); then apt-get update </dev/null; fi  # apt-cache knows nothing before
  local wanted=()
  for name in "${missing[@]}"; do
    [[ " ${optional_packages[*]} " == *" $name "* && -z $(apt-cache show "$name" 2>/dev/null) ]] || wanted+=("$name")
  done
  ((${#wanted[@]})) || return 0
  if ((EUID != 0)); then
    echo "Packages are missing. Install them, then start again, with SARA_SKIP_PACKAGES=1 if you have them elsewhere:" >&2
    echo "  sudo apt-get install --no-install-recommends ${wanted[*]}" >&2
    exit 1
  fi
  DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "${wanted[@]}" </dev/null
}

# What every build of the project needs.
build_packages=(g++ cmake ninja-build ccache libeigen3-dev nlohmann-json3-dev)
example_packages=(libcli11-dev libstb-dev fonts-dejavu-core)
test_packages=(doctest-dev clang clang-format python3 libtorch-dev)
sanitizer_packages=(libclang-rt-dev)
bench_packages=(pkg-config libopenblas-dev libdnnl-dev python3-torch libtorch-dev python3-numpy python3-matplotlib)
optional_packages=(libtorch-dev)  # asked for where the system has it
