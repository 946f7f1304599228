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

// A thread's share of a slice, on its way from global to shared memory.
struct Share {
    float left[DEPTH * TILE / THREADS];
    float right[DEPTH * TILE / THREADS];
};

// Of the block's outputs.
__device__ inline int first_row() { return TILE * blockIdx.y; }
__device__ inline int first_column() { return TILE * blockIdx.x; }

// Where a share's numbers lie in the slice: neighbouring threads along the tile, or along what is summed over.
__device__ inline int along_tile() { return threadIdx.x % TILE; }
__device__ inline int depth_of(int i) { return threadIdx.x / TILE + i * (THREADS / TILE); }
__device__ inline int across_tile(int i) { return threadIdx.x / DEPTH + i * (THREADS / DEPTH); }
__device__ inline int along_depth() { return threadIdx.x % DEPTH; }

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

// The tile's sums over `length`. `load` gives a thread's share of a slice, zeros past the end: of the next slice while this one is
// multiplied. IS_TURNED says that the left side lies along what is summed over.
template <bool IS_TURNED, typename Load>
__device__ void multiply_tile(TileShared &shared, float4 (&sums)[4], int length, Load load) {
    Share share = load(0);
    for (int first = 0; first < length; first += DEPTH) {
#pragma unroll
        for (int i = 0; i < DEPTH * TILE / THREADS; ++i) {
            (IS_TURNED ? shared.left[along_depth()][across_tile(i)] : shared.left[depth_of(i)][along_tile()]) = share.left[i];
            shared.right[depth_of(i)][along_tile()] = share.right[i];
        }
        __syncthreads();
        share = load(first + DEPTH);
        multiply_slice(shared, sums);
        __syncthreads();
    }
}

// Writes the thread's 4 × 4 outputs of a (height, width) matrix.
__device__ inline void store_tile(float *matrix, const float4 (&sums)[4], int height, int width) {
    int row = first_row() + 4 * (threadIdx.x / SIDE), column = first_column() + 4 * (threadIdx.x % SIDE);
    for (int i = 0; i < 4; ++i)
        if (row + i < height) store_row(matrix + static_cast<size_t>(row + i) * width, column, width, sums[i]);
}

// Logits (M, K) = items (M, D) · query (D, K).
template <typename T>
__device__ void multiply_many(
    TileShared &shared, const float *__restrict__ items, const T *__restrict__ query, float *__restrict__ logits, int M, int D, int K) {
    int k = min(first_column() + along_tile(), K - 1);
    float4 sums[4] = {};
    multiply_tile<true>(shared, sums, D, [=](int first) {
        Share share;
#pragma unroll
        for (int i = 0; i < DEPTH * TILE / THREADS; ++i) {
            int m = min(first_row() + across_tile(i), M - 1), d = first + along_depth(), e = first + depth_of(i);
            float left = items[static_cast<size_t>(m) * D + min(d, D - 1)];
            float right = number(query[static_cast<size_t>(min(e, D - 1)) * K + k]);
            share.left[i] = d < D ? left : 0;
            share.right[i] = e < D ? right : 0;
        }
        return share;
    });
    store_tile(logits, sums, M, K);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    multiply_many_f32(const float *items, const float *query, float *logits, int M, int D, int K) {
    __shared__ TileShared shared;
    multiply_many(shared, items, query, logits, M, D, K);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    multiply_many_f16(const float *items, const __half *query, float *logits, int M, int D, int K) {
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
extern "C" __global__ void __launch_bounds__(THREADS)
    weigh_many(const float *logits, int *nearest, float *peaks, float *totals, float *kept, int M, int K, int is_shrunk) {
    __shared__ WeighShared shared;
    int column = threadIdx.x, k = COLUMNS * blockIdx.x + column;
    int at = k < K ? k : K - 1;  // past the end: anything, as long as it is there
    Nearest best = {logits[at], 0};
#pragma unroll 8
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
#pragma unroll 8
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
__device__ inline void mix_tile(
    TileShared &shared, const float *__restrict__ items, const float *__restrict__ logits, const Weighing &query, float *__restrict__ read,
    int M, int D, int K) {
    int d = min(first_row() + along_tile(), D - 1), k = min(first_column() + along_tile(), K - 1);
    float4 sums[4] = {};
    multiply_tile<false>(shared, sums, M, [=](int first) {
        Share share;
#pragma unroll
        for (int i = 0; i < DEPTH * TILE / THREADS; ++i) {
            size_t m = min(first + depth_of(i), M - 1);
            float item = items[m * D + d], weight = weight_of(query, logits[m * K + k]);
            share.left[i] = first + depth_of(i) < M ? item : 0;
            share.right[i] = first + depth_of(i) < M ? weight : 0;
        }
        return share;
    });
    store_tile(read, sums, D, K);
}

// The thread's 4 × 4 elements: squared difference of the queries to their nearest items.
template <typename T>
__device__ float tile_difference(
    const float *__restrict__ items, const T *__restrict__ query, const int *__restrict__ nearest, int D, int K) {
    int d = first_row() + 4 * (threadIdx.x / SIDE), first_k = first_column() + 4 * (threadIdx.x % SIDE);
    float sum = 0;
    for (int k = first_k; k < first_k + 4 && k < K && d < D; ++k) {
        float4 item = load_row<false>(items + static_cast<size_t>(nearest[k]) * D, d, D);
        sum += squared_difference(load_column<false>(query, d, D, k, K), item);
    }
    return sum;
}

// Read (D, K) or none, distance (1).
template <typename T>
__device__ void mix_many(
    TileShared &shared, const float *items, const T *query, const float *logits, const int *nearest, const float *peaks,
    const float *totals, const float *kept, float *read, float *distance, float *parts, unsigned *arrived, int M, int D, int K,
    int is_shrunk) {
    int k = min(first_column() + along_tile(), K - 1);
    Weighing weighing = {peaks[k], totals[k], is_shrunk ? 1.0f / M : 0.0f, kept[k]};
    if (read != nullptr) mix_tile(shared, items, logits, weighing, read, M, D, K);
    float sum = tile_difference(items, query, nearest, D, K);
    finish_distance(shared.distance, sum, distance, parts, arrived, static_cast<float>(D) * K);
}

extern "C" __global__ void __launch_bounds__(THREADS) mix_many_f32(
    const float *items, const float *query, const float *logits, const int *nearest, const float *peaks, const float *totals,
    const float *kept, float *read, float *distance, float *parts, unsigned *arrived, int M, int D, int K, int is_shrunk) {
    __shared__ TileShared shared;
    mix_many(shared, items, query, logits, nearest, peaks, totals, kept, read, distance, parts, arrived, M, D, K, is_shrunk);
}

extern "C" __global__ void __launch_bounds__(THREADS) mix_many_f16(
    const float *items, const __half *query, const float *logits, const int *nearest, const float *peaks, const float *totals,
    const float *kept, float *read, float *distance, float *parts, unsigned *arrived, int M, int D, int K, int is_shrunk) {
    __shared__ TileShared shared;
    mix_many(shared, items, query, logits, nearest, peaks, totals, kept, read, distance, parts, arrived, M, D, K, is_shrunk);
}
