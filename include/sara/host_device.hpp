// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Marks what both the host and a CUDA kernel may call; nothing without nvcc.
#ifdef __CUDACC__
#define SARA_HOST_DEVICE __host__ __device__
#else
#define SARA_HOST_DEVICE
#endif
