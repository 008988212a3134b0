// SPDX-License-Identifier: Apache-2.0
// A unit for CMake to hang the precompiled header on.
