# SPDX-License-Identifier: Apache-2.0
# Sourced by the run scripts: has_gpu says whether the driver lists one.

has_gpu() { [[ $(nvidia-smi --list-gpus 2>/dev/null) == GPU* ]]; }
