// The update: gate, direction of every item, its next self with drift, and whether the bank takes it. Decided here; the host only
// learns of it later.
#pragma once

// A bank's four numbers, all float32.
constexpr int IS_FROZEN = 0;
constexpr int IS_UPDATED = 1;
constexpr int DRIFT = 2;
constexpr int IS_LEARNING = 3;  // from `turn_items` to `settle_bank`: the gate let the frame pass

constexpr int TURN_FREE = 0;  // the rule `none`
constexpr int TURN_MNAD = 1;
constexpr int TURN_EMA = 2;

constexpr int PER_THREAD = 4;       // queries that a thread looks at before the block meets
constexpr int MOST_CLAIMS = 2048;   // that are summed at once
constexpr int FEW_CLAIMS = 8;       // not worth a warp
constexpr int ROWS = 4;             // of the query that a warp walks along at once
constexpr double SHORTEST = 1e-12;  // a length that can be divided by
constexpr double VANISHED = 1e-12;  // a squared length that is no direction

__device__ inline bool passes_gate(const float *regular_score, const float *status, float limit) {
    return status[IS_FROZEN] == 0 && regular_score[0] < limit;
}

struct ClaimsShared {
    int query[MOST_CLAIMS];
    float weight[MOST_CLAIMS];
    int of_warps[PER_THREAD * WARPS];
    float largest[WARPS];
};

// The item's largest logit, over its own queries or over all.
__device__ inline float largest_logit(
    ClaimsShared &shared, const float *__restrict__ logits, const int *__restrict__ nearest, int m, int K, bool is_over_claimed) {
    float largest = -INFINITY;
#pragma unroll 4
    for (int k = threadIdx.x; k < K; k += THREADS) {
        float logit = logits[k];
        bool counts = nearest[k] == m || !is_over_claimed;
        largest = larger(largest, counts ? logit : -INFINITY);
    }
    return block_largest(largest, shared.largest);
}

// Appends the item's queries of the next PER_THREAD · THREADS, in order, with their weights; how many there are now.
// Who still reads the list of before is waited for, before it is written.
__device__ inline int collect_claims(
    ClaimsShared &shared, int count, int first, const float *__restrict__ logits, const int *__restrict__ nearest, float largest, int m,
    int K) {
    int t = threadIdx.x, warp = t / LANES, lane = t % LANES;
    int items[PER_THREAD];
    float logit[PER_THREAD];
    unsigned claims[PER_THREAD];
#pragma unroll
    for (int i = 0; i < PER_THREAD; ++i) {
        int k = min(first + i * THREADS + t, K - 1);
        items[i] = nearest[k];
        logit[i] = logits[k];
    }
#pragma unroll
    for (int i = 0; i < PER_THREAD; ++i) {
        claims[i] = __ballot_sync(ALL_LANES, items[i] == m && first + i * THREADS + t < K);
        if (lane == 0) shared.of_warps[i * WARPS + warp] = __popc(claims[i]);
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < PER_THREAD; ++i) {
        int before = count;
        for (int other = 0; other < WARPS; ++other) {
            int claimed = shared.of_warps[i * WARPS + other];
            if (other < warp) before += claimed;
            count += claimed;
        }
        if (!(claims[i] >> lane & 1)) continue;
        int slot = before + __popc(claims[i] & ((1u << lane) - 1));
        shared.query[slot] = first + i * THREADS + t;
        shared.weight[slot] = expf(logit[i] - largest);
    }
    __syncthreads();
    return count;
}

// Adds the collected queries, weighted, to elements first … last − 1 of the item's direction, which are rows of the query.
template <typename T>
__device__ void add_few_claims(
    const ClaimsShared &shared, int count, const T *__restrict__ query, float *direction, int first, int last, int K, bool is_first) {
    for (int d = first + threadIdx.x; d < last; d += THREADS) {
        float sum = 0;
        for (int claim = 0; claim < count; ++claim)
            sum += shared.weight[claim] * number(query[static_cast<size_t>(d) * K + shared.query[claim]]);
        direction[d] = is_first ? sum : direction[d] + sum;
    }
}

// The same for more of them: a warp sums four rows at a time.
template <typename T>
__device__ void add_claims(
    const ClaimsShared &shared, int count, const T *__restrict__ query, float *direction, int first, int last, int K, bool is_first) {
    if (count <= FEW_CLAIMS) return add_few_claims(shared, count, query, direction, first, last, K, is_first);
    int warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    for (int d = first + ROWS * warp; d < last; d += ROWS * WARPS) {
        float sums[ROWS] = {};
        for (int claim = lane; claim < count; claim += LANES) {
            const T *element = query + shared.query[claim];
#pragma unroll
            for (int row = 0; row < ROWS; ++row)
                sums[row] += shared.weight[claim] * number(element[static_cast<size_t>(min(d + row, last - 1)) * K]);
        }
#pragma unroll
        for (int row = 0; row < ROWS; ++row) {
            float sum = warp_sum(sums[row]);
            if (lane == 0 && d + row < last) direction[d + row] = is_first ? sum : direction[d + row] + sum;
        }
    }
}

// Direction (M, D) of every item and how many queries claim it (M); a block has one item and `rows` of D.
// A weight is softmax over the queries divided by its largest: the denominators cancel.
template <typename T>
__device__ void gather_claims(
    ClaimsShared &shared, const T *query, const float *logits, const int *nearest, float *direction, int *claims,
    const float *regular_score, const float *status, float limit, int D, int K, int rows, int is_over_claimed) {
    if (!passes_gate(regular_score, status, limit)) return;
    int m = blockIdx.x, first_d = rows * blockIdx.y, last_d = first_d + rows < D ? first_d + rows : D;
    logits += static_cast<size_t>(m) * K;
    direction += static_cast<size_t>(m) * D;
    float largest = largest_logit(shared, logits, nearest, m, K, is_over_claimed);
    int collected = 0, added = 0;
    for (int first = 0; first < K; first += PER_THREAD * THREADS) {
        collected = collect_claims(shared, collected, first, logits, nearest, largest, m, K);
        bool is_at_end = first + PER_THREAD * THREADS >= K;
        if (!is_at_end && collected + PER_THREAD * THREADS <= MOST_CLAIMS) continue;
        if (collected > 0) add_claims(shared, collected, query, direction, first_d, last_d, K, added == 0);
        added += collected;
        collected = 0;
    }
    if (threadIdx.x == 0 && blockIdx.y == 0) claims[m] = added;
}

extern "C" __global__ void __launch_bounds__(THREADS, 4) gather_claims_f32(
    const float *query, const float *logits, const int *nearest, float *direction, int *claims, const float *regular_score,
    const float *status, float limit, int D, int K, int rows, int is_over_claimed) {
    __shared__ ClaimsShared shared;
    gather_claims(shared, query, logits, nearest, direction, claims, regular_score, status, limit, D, K, rows, is_over_claimed);
}

extern "C" __global__ void __launch_bounds__(THREADS, 4) gather_claims_f16(
    const __half *query, const float *logits, const int *nearest, float *direction, int *claims, const float *regular_score,
    const float *status, float limit, int D, int K, int rows, int is_over_claimed) {
    __shared__ ClaimsShared shared;
    gather_claims(shared, query, logits, nearest, direction, claims, regular_score, status, limit, D, K, rows, is_over_claimed);
}

__device__ inline double inverse_length(double squared) {
    double length = sqrt(squared);
    return 1 / (length > SHORTEST ? length : SHORTEST);
}

// The item after a step along its direction, of unit length.
__device__ inline void turn(
    double (&of_warps)[WARPS], const float *__restrict__ item, const float *__restrict__ direction, float *next, float rate, int rule,
    int D) {
    double inverse = 1, squared = 0;
    if (rule == TURN_EMA) {
        for (int d = threadIdx.x; d < D; d += THREADS) squared += static_cast<double>(direction[d]) * direction[d];
        inverse = inverse_length(block_sum(squared, of_warps));
    }
    squared = 0;
    for (int d = threadIdx.x; d < D; d += THREADS) {
        float step = rule == TURN_EMA ? rate * static_cast<float>(direction[d] * inverse) : direction[d];
        next[d] = item[d] + step;
        squared += static_cast<double>(next[d]) * next[d];
    }
    squared = block_sum(squared, of_warps);
    bool has_vanished = rule == TURN_MNAD && squared < VANISHED;  // a step exactly opposite leaves nothing to turn to
    inverse = inverse_length(squared);
    for (int d = threadIdx.x; d < D; d += THREADS) next[d] = has_vanished ? item[d] : static_cast<float>(next[d] * inverse);
}

// 1 − cosine of a row to its shipped self.
__device__ inline float drift_of(double (&of_warps)[WARPS], const float *row, const float *__restrict__ shipped, int D) {
    double product = 0, squared = 0, shipped_squared = 0;
    for (int d = threadIdx.x; d < D; d += THREADS) {
        product += static_cast<double>(row[d]) * shipped[d];
        squared += static_cast<double>(row[d]) * row[d];
        shipped_squared += static_cast<double>(shipped[d]) * shipped[d];
    }
    product = block_sum(product, of_warps);
    squared = block_sum(squared, of_warps);
    shipped_squared = block_sum(shipped_squared, of_warps);
    double drift = 1 - product * inverse_length(squared * shipped_squared);
    return drift < 0 ? 0 : drift;  // what is not a number stays so
}

// Next items (M, D) and their drifts (M), an item a block; one that nothing claims stays as it is.
extern "C" __global__ void __launch_bounds__(THREADS) turn_items(
    const float *items, const float *shipped, const float *direction, const int *claims, float *next, float *drifts,
    const float *regular_score, float *status, float limit, float rate, int rule, int D) {
    __shared__ double of_warps[WARPS];
    bool is_learning = passes_gate(regular_score, status, limit);
    if (blockIdx.x == 0 && threadIdx.x == 0) status[IS_LEARNING] = is_learning;
    if (!is_learning) return;
    size_t row = static_cast<size_t>(blockIdx.x) * D;
    if (rule != TURN_FREE && claims[blockIdx.x] > 0)
        turn(of_warps, items + row, direction + row, next + row, rate, rule, D);
    else
        for (int d = threadIdx.x; d < D; d += THREADS) next[row + d] = items[row + d];
    float drift = drift_of(of_warps, next + row, shipped + row, D);
    if (threadIdx.x == 0) drifts[blockIdx.x] = drift;
}

// All pools of a bank at once: takes the next items, or discards them and freezes. `fours` is the bank's length in float4.
extern "C" __global__ void __launch_bounds__(THREADS)
    settle_bank(float4 *items, const float4 *next, const float *drifts, float *status, float drift_limit, int fours, int drift_count) {
    __shared__ float of_warps[WARPS];
    bool is_learning = status[IS_LEARNING] != 0;
    float drift = 0;
    for (int i = threadIdx.x; i < drift_count; i += THREADS) drift = larger(drift, drifts[i]);
    drift = block_largest(drift, of_warps);
    bool is_accepted = is_learning && drift <= drift_limit;
    int four = blockIdx.x * THREADS + threadIdx.x;
    if (is_accepted && four < fours) items[four] = next[four];
    if (blockIdx.x > 0 || threadIdx.x > 0) return;
    status[IS_UPDATED] = is_accepted;
    if (is_accepted) status[DRIFT] = drift;
    if (is_learning && !is_accepted) status[IS_FROZEN] = 1;
}
