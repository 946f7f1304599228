// CUDA on the CPU, to check arithmetic and synchronisation: the part of the language that the kernels use.
//
// Blocks run one after the other, the threads of a block concurrently: as fibers that switch where they wait, in a chosen order, or
// as threads of the operating system. Shared memory holds no numbers when a block begins.
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define __global__
#define __device__
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("emulated_shared"), used))
#define __syncthreads() emulation::sync_block(__FILE__, __LINE__)

struct uint3 {
    unsigned x, y, z;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

extern thread_local uint3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {

constexpr int WARP = 32;

// Waits for the block; `file` and `line` say at which barrier.
void sync_block(const char *file, int line);

// Hands a value to the other lanes of the warp; theirs, of up to 8 bytes each.
const uint64_t *exchange(uint64_t value);
int lane();
int lanes();

}  // namespace emulation

template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
    static_assert(sizeof(T) <= sizeof(uint64_t));
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    const uint64_t *all = emulation::exchange(bits);
    memcpy(&value, &all[emulation::lane() ^ mask], sizeof value);
    return value;
}

inline unsigned __ballot_sync(unsigned, bool vote) {
    const uint64_t *all = emulation::exchange(vote);
    unsigned ballot = 0;
    for (int lane = 0; lane < emulation::lanes(); ++lane) ballot |= unsigned(all[lane]) << lane;
    return ballot;
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline unsigned atomicInc(unsigned *counter, unsigned last) {
    unsigned old = __atomic_load_n(counter, __ATOMIC_SEQ_CST);
    while (!__atomic_compare_exchange_n(counter, &old, old >= last ? 0 : old + 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
    return old;
}
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline int min(int a, int b) { return a < b ? a : b; }
inline long long min(long long a, long long b) { return a < b ? a : b; }
inline long long max(long long a, long long b) { return a > b ? a : b; }
