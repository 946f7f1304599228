// What the threads of a block do together.
#pragma once

constexpr int THREADS = 256;  // of every block, whatever its shape; frames and numbers to pack apart
constexpr int LANES = 32;
constexpr int WARPS = THREADS / LANES;
constexpr unsigned ALL_LANES = 0xffffffffu;

__device__ inline int thread_of_block() { return threadIdx.x + blockDim.x * threadIdx.y; }

// The larger one, as NumPy has it: not a number if either is not.
__device__ inline float larger(float a, float b) { return a > b || a != a ? a : b; }

template <typename T>
__device__ T warp_sum(T value) {
    for (int distance = LANES / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(ALL_LANES, value, distance);
    return value;
}

// The sum over the block, known to all its threads; `of_warps` is shared memory.
template <typename T>
__device__ T block_sum(T value, T (&of_warps)[WARPS]) {
    value = warp_sum(value);
    __syncthreads();  // an earlier sum has been read
    if (thread_of_block() % LANES == 0) of_warps[thread_of_block() / LANES] = value;
    __syncthreads();
    T total = of_warps[0];
    for (int warp = 1; warp < WARPS; ++warp) total += of_warps[warp];
    return total;
}

// The largest over the block, not a number if any is not; known to all its threads.
__device__ inline float block_largest(float value, float (&of_warps)[WARPS]) {
    for (int distance = LANES / 2; distance > 0; distance /= 2) value = larger(value, __shfl_xor_sync(ALL_LANES, value, distance));
    if (thread_of_block() % LANES == 0) of_warps[thread_of_block() / LANES] = value;
    __syncthreads();
    float largest = of_warps[0];
    for (int warp = 1; warp < WARPS; ++warp) largest = larger(largest, of_warps[warp]);
    return largest;
}
