# SPDX-License-Identifier: Apache-2.0
# Sourced by the run scripts: has_gpu says whether the driver lists one. CMake is told of an nvcc that is where the
# toolkit is put by default, but not on the PATH.

has_gpu() { [[ $(nvidia-smi --list-gpus 2>/dev/null) == GPU* ]]; }

if [[ -z ${CUDACXX:-} && -x /usr/local/cuda/bin/nvcc ]] && ! command -v nvcc >/dev/null; then
  export CUDACXX=/usr/local/cuda/bin/nvcc
fi
