// Which item a query is nearest to, and how much of each it reads.
#pragma once

constexpr float SHRINK_EPSILON = 1e-12f;

// An item and its logit. Among equals the first is the nearest; what is not a number counts as the largest, as in NumPy.
struct Nearest {
    float logit;
    int item;
};

__device__ inline bool is_nearer(Nearest a, Nearest b) {
    bool a_is_number = a.logit == a.logit, b_is_number = b.logit == b.logit;
    if (a_is_number && b_is_number && a.logit != b.logit) return a.logit > b.logit;
    if (a_is_number != b_is_number) return !a_is_number;
    return a.item < b.item;
}

// How one query turns logits into weights.
struct Weighing {
    float peak;   // its largest logit
    float total;  // sum over the items of exp(logit − peak)
    float share;  // the weight that is shrunk to nothing, 1 / M; 0 where nothing is shrunk
    float kept;   // sum over the items of what shrinking left
};

__device__ inline float softmax_weight(const Weighing &query, float logit) { return expf(logit - query.peak) / query.total; }

__device__ inline float shrunk_weight(const Weighing &query, float logit) {
    float weight = softmax_weight(query, logit), excess = weight - query.share;
    return weight * ((excess > 0 ? excess : 0) / (fabsf(excess) + SHRINK_EPSILON));
}

__device__ inline float weight_of(const Weighing &query, float logit) {
    if (query.share == 0) return softmax_weight(query, logit);
    return shrunk_weight(query, logit) / (query.kept > SHRINK_EPSILON ? query.kept : SHRINK_EPSILON);
}
