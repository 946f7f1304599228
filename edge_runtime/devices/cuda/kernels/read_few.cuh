// Reading a pool of few items, at most MOST_FEW, in one launch.
//
// A block has `blockDim.x` queries and walks over all of D in `blockDim.y` slices; a thread takes four elements of one query at a
// time. Neighbouring threads have neighbouring queries. Few queries are cut into narrow blocks, so that there are enough of them.
#pragma once

constexpr int MOST_FEW = 64;
constexpr int WIDEST = 32;  // queries of a block
constexpr int GROUP = 10;   // items whose products a thread adds up in registers: as many as most pools have

struct FewShared {
    float partial[GROUP * (THREADS + WIDEST)];
    float logits[MOST_FEW][WIDEST];  // then weights
    int nearest[WIDEST];
    DistanceShared distance;
};

// Logits of the block's queries, to shared memory and to (M, K). Queries and items past the end are the last one again.
template <bool IS_WHOLE, typename T>
__device__ void multiply_few(
    FewShared &shared, const float *__restrict__ items, const T *__restrict__ query, float *__restrict__ logits, int M, int D, int K) {
    int columns = blockDim.x, slices = blockDim.y, first_k = blockIdx.x * columns;
    int k = min(first_k + static_cast<int>(threadIdx.x), K - 1);
    int stride = THREADS + columns;  // between items, so that their sums lie in different banks
    for (int first = 0; first < M; first += GROUP) {
        float sums[GROUP] = {};
        for (int d = 4 * threadIdx.y; d < D; d += 4 * slices) {
            float4 elements = load_column<IS_WHOLE>(query, d, D, k, K);
#pragma unroll
            for (int i = 0; i < GROUP; ++i)
                sums[i] += dot(load_row<IS_WHOLE>(items + static_cast<size_t>(min(first + i, M - 1)) * D, d, D), elements);
        }
#pragma unroll
        for (int i = 0; i < GROUP; ++i) shared.partial[stride * i + thread_of_block()] = sums[i];
        __syncthreads();
        for (int output = thread_of_block(); output < min(GROUP, M - first) * columns; output += THREADS) {
            int i = output / columns, column = output % columns;
            float sum = 0;
#pragma unroll 8
            for (int slice = 0; slice < slices; ++slice) sum += shared.partial[stride * i + columns * slice + column];
            shared.logits[first + i][column] = sum;
            if (first_k + column < K) logits[static_cast<size_t>(first + i) * K + first_k + column] = sum;
        }
        __syncthreads();
    }
}

// One thread a query: its nearest item, and its logits made weights.
__device__ inline void weigh_few(FewShared &shared, int column, int M, bool is_shrunk) {
    Nearest nearest = {shared.logits[0][column], 0};
    for (int m = 1; m < M; ++m) {
        Nearest other = {shared.logits[m][column], m};
        if (is_nearer(other, nearest)) nearest = other;
    }
    shared.nearest[column] = nearest.item;
    Weighing query = {nearest.logit, 0, is_shrunk ? 1.0f / M : 0.0f, 0};
    for (int m = 0; m < M; ++m) query.total += expf(shared.logits[m][column] - query.peak);
    for (int m = 0; m < M && is_shrunk; ++m) query.kept += shrunk_weight(query, shared.logits[m][column]);
    for (int m = 0; m < M; ++m) shared.logits[m][column] = weight_of(query, shared.logits[m][column]);
}

// Writes the block's reads, if they are wanted; the thread's part of the squared difference to the nearest items.
template <bool IS_WHOLE, typename T>
__device__ float mix_few(
    const FewShared &shared, const float *__restrict__ items, const T *__restrict__ query, float *__restrict__ read, int M, int D, int K) {
    int column = threadIdx.x, k = blockIdx.x * blockDim.x + column;
    if (k >= K) return 0;
    float sum = 0;
    for (int d = 4 * threadIdx.y; d < D; d += 4 * blockDim.y) {
        float4 elements = load_column<IS_WHOLE>(query, d, D, k, K);
        sum += squared_difference(elements, load_row<IS_WHOLE>(items + static_cast<size_t>(shared.nearest[column]) * D, d, D));
        if (read == nullptr) continue;
        float4 mixed = make_float4(0, 0, 0, 0);
#pragma unroll GROUP
        for (int m = 0; m < M; ++m)
            add_scaled(mixed, shared.logits[m][column], load_row<IS_WHOLE>(items + static_cast<size_t>(m) * D, d, D));
        store_column<IS_WHOLE>(read, d, D, k, K, mixed);
    }
    return sum;
}

// Logits (M, K), nearest (K), read (D, K) or none, distance (1) or none: without it nothing is mixed.
template <bool IS_WHOLE, typename T>
__device__ void read_rows(
    FewShared &shared, const float *items, const T *query, float *logits, int *nearest, float *read, float *distance, float *parts,
    unsigned *arrived, int M, int D, int K, int is_shrunk) {
    int k = blockIdx.x * blockDim.x + threadIdx.x;
    multiply_few<IS_WHOLE>(shared, items, query, logits, M, D, K);
    if (threadIdx.y == 0) {
        weigh_few(shared, threadIdx.x, M, is_shrunk);
        if (k < K) nearest[k] = shared.nearest[threadIdx.x];
    }
    if (distance == nullptr) return;
    __syncthreads();
    float sum = mix_few<IS_WHOLE>(shared, items, query, read, M, D, K);
    finish_distance(shared.distance, sum, distance, parts, arrived, static_cast<float>(D) * K);
}

template <typename T>
__device__ void read_few(
    FewShared &shared, const float *items, const T *query, float *logits, int *nearest, float *read, float *distance, float *parts,
    unsigned *arrived, int M, int D, int K, int is_shrunk) {
    if (D % 4 == 0)
        read_rows<true>(shared, items, query, logits, nearest, read, distance, parts, arrived, M, D, K, is_shrunk);
    else
        read_rows<false>(shared, items, query, logits, nearest, read, distance, parts, arrived, M, D, K, is_shrunk);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) read_few_f32(
    const float *items, const float *query, float *logits, int *nearest, float *read, float *distance, float *parts, unsigned *arrived,
    int M, int D, int K, int is_shrunk) {
    __shared__ FewShared shared;
    read_few(shared, items, query, logits, nearest, read, distance, parts, arrived, M, D, K, is_shrunk);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) read_few_f16(
    const float *items, const __half *query, float *logits, int *nearest, float *read, float *distance, float *parts, unsigned *arrived,
    int M, int D, int K, int is_shrunk) {
    __shared__ FewShared shared;
    read_few(shared, items, query, logits, nearest, read, distance, parts, arrived, M, D, K, is_shrunk);
}
