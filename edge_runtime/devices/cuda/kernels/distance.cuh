// The mean squared difference of the queries to their nearest items, from every block's part of it.
#pragma once

struct DistanceShared {
    float of_warps[WARPS];
    int is_last;
};

// Adds up a block's part; the block that comes last adds up all parts, in their order, and writes the mean.
// `parts` has room for one number a block; `arrived` is zero before the launch and after it.
__device__ inline void finish_distance(
    DistanceShared &shared, float sum, float *distance, float *parts, unsigned *arrived, float elements) {
    unsigned blocks = gridDim.x * gridDim.y;
    sum = block_sum(sum, shared.of_warps);
    if (thread_of_block() == 0) {
        parts[blockIdx.x + gridDim.x * blockIdx.y] = sum;
        __threadfence();
        shared.is_last = atomicInc(arrived, blocks - 1) == blocks - 1;
        __threadfence();
    }
    __syncthreads();
    if (!shared.is_last) return;
    float total = 0;
    for (unsigned block = thread_of_block(); block < blocks; block += THREADS) total += parts[block];
    total = block_sum(total, shared.of_warps);
    if (thread_of_block() == 0) *distance = total / elements;
}
