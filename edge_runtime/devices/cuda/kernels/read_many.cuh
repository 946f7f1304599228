// Reading a pool of many items: logits, what every query makes of them, reads; three launches.
//
// The two products run in tiles of 64 × 64 outputs, 4 × 4 to a thread. Weights are never stored: the second product makes them from
// the logits as it loads them.
#pragma once

constexpr int TILE = 64;   // rows and columns of a block's outputs
constexpr int DEPTH = 16;  // of the slices that are summed over
constexpr int PADDED = TILE + 4;
constexpr int SIDE = TILE / 4;  // threads along a side

struct alignas(16) TileShared {
    float left[DEPTH][PADDED];
    float right[DEPTH][PADDED];
    DistanceShared distance;
};

// One slice of the product: 4 rows from 4·(t / 16) on, 4 columns from 4·(t % 16) on.
__device__ inline void multiply_slice(const TileShared &shared, float4 (&sums)[4]) {
    int row = 4 * (threadIdx.x / SIDE), column = 4 * (threadIdx.x % SIDE);
#pragma unroll
    for (int depth = 0; depth < DEPTH; ++depth) {
        float4 left = *reinterpret_cast<const float4 *>(&shared.left[depth][row]);
        float4 right = *reinterpret_cast<const float4 *>(&shared.right[depth][column]);
        add_scaled(sums[0], left.x, right);
        add_scaled(sums[1], left.y, right);
        add_scaled(sums[2], left.z, right);
        add_scaled(sums[3], left.w, right);
    }
}

// Logits (M, K) = items (M, D) · query (D, K).
template <typename T>
__device__ void multiply_many(TileShared &shared, const float *__restrict__ items, const T *__restrict__ query, float *__restrict__ logits, int M,
                              int D, int K) {
    int t = threadIdx.x, first_m = TILE * blockIdx.y, first_k = TILE * blockIdx.x;
    float4 sums[4] = {};
    for (int first_d = 0; first_d < D; first_d += DEPTH) {
        for (int i = t; i < DEPTH * TILE; i += THREADS) {
            int d = first_d + i % DEPTH, m = first_m + i / DEPTH;  // neighbours in a row of items
            shared.left[i % DEPTH][i / DEPTH] = d < D && m < M ? items[static_cast<size_t>(m) * D + d] : 0;
        }
        for (int i = t; i < DEPTH * TILE; i += THREADS) {
            int d = first_d + i / TILE, k = first_k + i % TILE;
            shared.right[i / TILE][i % TILE] = d < D && k < K ? number(query[static_cast<size_t>(d) * K + k]) : 0;
        }
        __syncthreads();
        multiply_slice(shared, sums);
        __syncthreads();
    }
    for (int i = 0; i < 4; ++i) {
        int m = first_m + 4 * (t / SIDE) + i;
        if (m < M) store_row(logits + static_cast<size_t>(m) * K, first_k + 4 * (t % SIDE), K, sums[i]);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) multiply_many_f32(const float *items, const float *query, float *logits, int M, int D, int K) {
    __shared__ TileShared shared;
    multiply_many(shared, items, query, logits, M, D, K);
}

extern "C" __global__ void __launch_bounds__(THREADS) multiply_many_f16(const float *items, const __half *query, float *logits, int M, int D, int K) {
    __shared__ TileShared shared;
    multiply_many(shared, items, query, logits, M, D, K);
}

constexpr int COLUMNS = 8;  // queries of a block that weighs
constexpr int SLICES = THREADS / COLUMNS;

struct WeighShared {
    Nearest nearest[SLICES][COLUMNS];
    float sums[SLICES][COLUMNS];
};

// Sum over the slices of the thread's query.
__device__ inline float column_sum(WeighShared &shared, float value) {
    __syncthreads();  // an earlier sum has been read
    shared.sums[threadIdx.y][threadIdx.x] = value;
    __syncthreads();
    float sum = 0;
    for (int slice = 0; slice < SLICES; ++slice) sum += shared.sums[slice][threadIdx.x];
    return sum;
}

// Every query's nearest item, and its way from logits to weights, each (K).
extern "C" __global__ void __launch_bounds__(THREADS) weigh_many(const float *logits, int *nearest, float *peaks, float *totals, float *kept, int M, int K, int is_shrunk) {
    __shared__ WeighShared shared;
    int column = threadIdx.x, k = COLUMNS * blockIdx.x + column;
    int at = k < K ? k : K - 1;  // past the end: anything, as long as it is there
    Nearest best = {logits[at], 0};
    for (int m = threadIdx.y; m < M; m += SLICES) {
        Nearest other = {logits[static_cast<size_t>(m) * K + at], m};
        if (is_nearer(other, best)) best = other;
    }
    shared.nearest[threadIdx.y][column] = best;
    __syncthreads();
    for (int slice = 0; slice < SLICES; ++slice)
        if (is_nearer(shared.nearest[slice][column], best)) best = shared.nearest[slice][column];

    Weighing query = {best.logit, 0, is_shrunk ? 1.0f / M : 0.0f, 0};
    float sum = 0;
    for (int m = threadIdx.y; m < M; m += SLICES) sum += expf(logits[static_cast<size_t>(m) * K + at] - query.peak);
    query.total = column_sum(shared, sum);
    sum = 0;
    for (int m = threadIdx.y; m < M && is_shrunk; m += SLICES) sum += shrunk_weight(query, logits[static_cast<size_t>(m) * K + at]);
    query.kept = column_sum(shared, sum);
    if (threadIdx.y > 0 || k >= K) return;
    nearest[k] = best.item;
    peaks[k] = query.peak;
    totals[k] = query.total;
    kept[k] = query.kept;
}

// Read (D, K) = itemsᵀ (D, M) · weights (M, K).
__device__ inline void mix_tile(TileShared &shared, const float *__restrict__ items, const float *__restrict__ logits, const Weighing &query,
                                float4 (&sums)[4], int M, int D, int K) {
    int t = threadIdx.x, first_d = TILE * blockIdx.y, k = TILE * blockIdx.x + t % TILE;
    for (int first_m = 0; first_m < M; first_m += DEPTH) {
        for (int row = t / TILE; row < DEPTH; row += THREADS / TILE) {
            int m = first_m + row, d = first_d + t % TILE;
            shared.left[row][t % TILE] = m < M && d < D ? items[static_cast<size_t>(m) * D + d] : 0;
            shared.right[row][t % TILE] = m < M && k < K ? weight_of(query, logits[static_cast<size_t>(m) * K + k]) : 0;
        }
        __syncthreads();
        multiply_slice(shared, sums);
        __syncthreads();
    }
}

// The thread's 4 × 4 elements: squared difference of the queries to their nearest items.
template <typename T>
__device__ float tile_difference(const float *__restrict__ items, const T *__restrict__ query, const int *__restrict__ nearest, int D, int K) {
    int d = TILE * blockIdx.y + 4 * (threadIdx.x / SIDE), first_k = TILE * blockIdx.x + 4 * (threadIdx.x % SIDE);
    float sum = 0;
    for (int k = first_k; k < first_k + 4 && k < K; ++k) {
        float4 item = load_row(items + static_cast<size_t>(nearest[k]) * D, d, D);
        sum += squared_difference(load_column(query, d, D, k, K, true), item);
    }
    return sum;
}

// Read (D, K) or none, distance (1).
template <typename T>
__device__ void mix_many(TileShared &shared, const float *items, const T *query, const float *logits, const int *nearest, const float *peaks,
                         const float *totals, const float *kept, float *read, float *distance, float *parts, unsigned *arrived, int M, int D,
                         int K, int is_shrunk) {
    int t = threadIdx.x, k = TILE * blockIdx.x + t % TILE, at = k < K ? k : K - 1;
    if (read != nullptr) {
        Weighing weighing = {peaks[at], totals[at], is_shrunk ? 1.0f / M : 0.0f, kept[at]};
        float4 sums[4] = {};
        mix_tile(shared, items, logits, weighing, sums, M, D, K);
        for (int i = 0; i < 4; ++i) {
            int d = TILE * blockIdx.y + 4 * (t / SIDE) + i;
            if (d < D) store_row(read + static_cast<size_t>(d) * K, TILE * blockIdx.x + 4 * (t % SIDE), K, sums[i]);
        }
    }
    float sum = tile_difference(items, query, nearest, D, K);
    finish_distance(shared.distance, sum, distance, parts, arrived, static_cast<float>(D) * K);
}

extern "C" __global__ void __launch_bounds__(THREADS) mix_many_f32(const float *items, const float *query, const float *logits, const int *nearest, const float *peaks, const float *totals, const float *kept, float *read, float *distance, float *parts, unsigned *arrived, int M, int D, int K, int is_shrunk) {
    __shared__ TileShared shared;
    mix_many(shared, items, query, logits, nearest, peaks, totals, kept, read, distance, parts, arrived, M, D, K, is_shrunk);
}

extern "C" __global__ void __launch_bounds__(THREADS) mix_many_f16(const float *items, const __half *query, const float *logits, const int *nearest, const float *peaks, const float *totals, const float *kept, float *read, float *distance, float *parts, unsigned *arrived, int M, int D, int K, int is_shrunk) {
    __shared__ TileShared shared;
    mix_many(shared, items, query, logits, nearest, peaks, totals, kept, read, distance, parts, arrived, M, D, K, is_shrunk);
}
